# Images of the platform: `--target cpu` (also the default) and `--target gpu`. Both run as user 1000 with a read-only root:
# processes write to /tmp, /home/ray and /dev/shm. Versions are only in pyproject.toml; tools/pins.py reads them.
#
# BASE is any Debian with Python 3.11 to 3.13 and its venv module. An index other than pip's default is given as build argument
# PIP_INDEX_URL, and one with CPU builds of torch as CPU_TORCH_INDEX (the default index may carry the CUDA build, gigabytes more).
ARG BASE=python:3.11-slim-bookworm
# Its CUDA must be of the major version that torch was built for.
ARG CUDA=nvidia/cuda:13.0.2-devel-ubuntu24.04

FROM ${BASE} AS base
# KubeRay may start containers through a login shell, which sets PATH anew from /etc/profile.
# hadolint ignore=SC2016
RUN groupadd --gid 1000 ray \
    && useradd --uid 1000 --gid 1000 --create-home --home-dir /home/ray --shell /bin/bash ray \
    && mkdir -p /etc/profile.d \
    && echo 'export PATH=/opt/venv/bin:$PATH' > /etc/profile.d/clinical-modernbert.sh
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# What an installation needs to know of the project; its code comes later, so that a change of it installs nothing anew.
FROM base AS project
WORKDIR /build
COPY pyproject.toml README.md ./
COPY tools/pins.py tools/
RUN python3 -m venv /opt/venv \
    && mkdir -p platform/clinical_modernbert && touch platform/clinical_modernbert/__init__.py \
    && python3 tools/pins.py torch > torch.txt \
    && python3 tools/pins.py numpy > tools.txt && python3 tools/pins.py setuptools >> tools.txt \
    && python3 tools/pins.py flash-attn > flash-attn.txt \
    && python3 tools/pins.py cyclonedx-bom > sbom.txt

# torch goes first: DeepSpeed's setup reads it, and without built ops (DS_BUILD_OPS=0) it needs no compiler. `wheel` is the one
# tool without a pin: only builds use it.
FROM project AS cpu-venv
ARG PIP_INDEX_URL
ARG CPU_TORCH_INDEX=""
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${CPU_TORCH_INDEX:+--index-url "${CPU_TORCH_INDEX}"} -r torch.txt \
    && pip install --no-cache-dir -r tools.txt wheel \
    && DS_BUILD_OPS=0 pip install --no-cache-dir --no-build-isolation '.[all]'
# Without the folder of the first build: setuptools would take its empty files for newer than the code.
COPY platform platform
RUN rm -rf build && pip install --no-cache-dir --no-build-isolation --no-deps --force-reinstall .

FROM project AS gpu-dependencies
ARG PIP_INDEX_URL
# hadolint ignore=DL3013
RUN pip install --no-cache-dir -r torch.txt -r tools.txt wheel \
    && DS_BUILD_OPS=0 pip install --no-cache-dir --no-build-isolation '.[all]'

FROM ${CUDA} AS cuda

# The only stage with compilers; nothing but its wheel leaves it. 80 is A100, 90 is H100.
FROM gpu-dependencies AS flash-attn
ARG PIP_INDEX_URL
ARG FLASH_ATTN_CUDA_ARCHS="80;90"
ARG MAX_JOBS=4
COPY --from=cuda /usr/local/cuda/ /usr/local/cuda/
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential ninja-build \
    && rm -rf /var/lib/apt/lists/*
RUN CUDA_HOME=/usr/local/cuda FLASH_ATTENTION_FORCE_BUILD=TRUE \
    pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels -r flash-attn.txt

FROM gpu-dependencies AS gpu-venv
ARG PIP_INDEX_URL
COPY --from=flash-attn /wheels /wheels
RUN pip install --no-cache-dir --no-index --no-deps /wheels/*.whl && rm -rf /wheels
COPY platform platform
RUN rm -rf build && pip install --no-cache-dir --no-build-isolation --no-deps --force-reinstall .

# The software bill of materials (CycloneDX) of each environment, by a tool that stays outside it.
FROM project AS sbom-tool
ARG PIP_INDEX_URL
RUN python3 -m venv /opt/sbom && /opt/sbom/bin/pip install --no-cache-dir -r sbom.txt

FROM sbom-tool AS cpu-sbom
COPY --from=cpu-venv /opt/venv /opt/venv
RUN /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /opt/venv

FROM sbom-tool AS gpu-sbom
COPY --from=gpu-venv /opt/venv /opt/venv
RUN /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /opt/venv

FROM base AS application
ARG BASE
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="clinical-modernbert" \
      org.opencontainers.image.description="Clinical ModernBERT on Ray: corpus, pretraining, evaluation, endpoint, explorer" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}" \
      io.clinical-modernbert.sbom="/usr/share/sbom/clinical-modernbert.cdx.json"
COPY jobs jobs
COPY apps apps
COPY dashboards dashboards
ENV HOME=/home/ray \
    TMPDIR=/tmp \
    XDG_CACHE_HOME=/home/ray/.cache \
    HF_HOME=/home/ray/.cache/huggingface \
    PYTHONPATH=/app \
    RAY_USAGE_STATS_ENABLED=0 \
    CLINICAL_REVISION=${REVISION} \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=clinical_modernbert.serving.proxy.middlewares
USER 1000:1000

FROM application AS gpu
COPY --from=gpu-venv /opt/venv /opt/venv
COPY --from=gpu-sbom /sbom.cdx.json /usr/share/sbom/clinical-modernbert.cdx.json

FROM application AS cpu
COPY --from=cpu-venv /opt/venv /opt/venv
COPY --from=cpu-sbom /sbom.cdx.json /usr/share/sbom/clinical-modernbert.cdx.json
