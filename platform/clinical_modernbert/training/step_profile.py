"""A trace of some steps of rank 0 by torch's profiler, for chrome://tracing or Perfetto; it goes into the model's artifact."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from clinical_modernbert.artifacts import FileEntry, Store, upload
from clinical_modernbert.artifacts.layout import artifact_prefix
from clinical_modernbert.recipe.training_run import ProfileSection

TRACE_PATH = "profile/trace.json.gz"


class StepProfiler:
    """Profiles the steps of ``section``, and uploads their trace after the last; None profiles nothing."""

    def __init__(self, section: ProfileSection | None, *, store: Store, run_id: str) -> None:
        self._section, self._store, self._run_id = section, store, run_id
        self._profile: Any = None
        self.files: tuple[FileEntry, ...] = ()
        """The uploaded trace, for the artifact's manifest."""

    @contextmanager
    def around(self, step: int) -> Iterator[None]:
        """Profile the block if ``step`` is one of the section's."""
        section = self._section
        if section and step == section.first_step:
            self._profile = torch.profiler.profile(profile_memory=True, record_shapes=True)
            self._profile.start()
        yield
        if section and self._profile and step + 1 == section.first_step + section.num_steps:
            self._profile.stop()
            with tempfile.TemporaryDirectory() as folder:
                trace = Path(folder) / "trace.json.gz"
                self._profile.export_chrome_trace(str(trace))
                self.files = (upload(self._store, artifact_prefix("model", self._run_id), TRACE_PATH, trace),)
            self._profile = None
