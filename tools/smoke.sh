#!/usr/bin/env bash
# A smoke test on a cluster on your machine: kind or k3d, Docker, helm 4, kubectl. Needs the internet and about 16 GB.
# CI does not run it, because it has neither tool: it runs tests against an API stub instead (tests/helpers/api_stub).
#
#   tools/smoke.sh [kind|k3d]       creates the cluster clinical-modernbert-smoke, installs, tests, submits, and deletes it
#   KEEP=1 tools/smoke.sh           keeps it
set -euo pipefail
cd "$(dirname "$0")/.."

tool=${1:-kind}
cluster=clinical-modernbert-smoke
version=$(sed -n 's/^appVersion: //p' charts/clinical-modernbert/Chart.yaml)
image=clinical-modernbert:$version

finish() {
  [ -n "${KEEP:-}" ] && return
  case $tool in
    kind) kind delete cluster --name "$cluster" ;;
    k3d) k3d cluster delete "$cluster" ;;
  esac
}
trap finish EXIT

docker build --target cpu --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD)" --tag "$image" .
case $tool in
  kind) kind create cluster --name "$cluster" && kind load docker-image "$image" --name "$cluster" ;;
  k3d) k3d cluster create "$cluster" && k3d image import "$image" --cluster "$cluster" ;;
  *) echo "kind or k3d, not $tool" >&2 && exit 2 ;;
esac

helm repo add kuberay https://ray-project.github.io/kuberay-helm/
helm install kuberay-operator kuberay/kuberay-operator --version 1.7.0 --namespace kuberay --create-namespace --wait

kubectl create namespace ml
kubectl label namespace ml pod-security.kubernetes.io/enforce=restricted
kubectl --namespace ml create secret generic store \
  --from-literal AWS_ACCESS_KEY_ID=smoke --from-literal "AWS_SECRET_ACCESS_KEY=$(openssl rand -hex 16)"
helm install cm charts/clinical-modernbert --namespace ml --server-side=false --wait --timeout 15m \
  --set objectStore.root=s3://smoke --set objectStore.existingSecret=store --set devStore.enabled=true --set devStore.size=5Gi \
  --set head.cpu=1 --set head.memory=5Gi --set workerGroups.cpu.cpu=2 --set workerGroups.cpu.memory=6Gi
kubectl --namespace ml wait raycluster/cm-clinical-modernbert-research --for=condition=HeadPodReady --timeout=10m
helm test cm --namespace ml --logs

python jobs/submit.py build_corpus corpus/demo --release cm-clinical-modernbert --namespace ml --workers cpu=1
helm upgrade cm charts/clinical-modernbert --namespace ml --reuse-values --set explorer.memory=3Gi --wait
helm rollback cm 1 --namespace ml --wait
helm uninstall cm --namespace ml --wait
echo "smoke test passed"
