"""What every job does around its one function."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from clinical_modernbert.artifacts import (
    Artifact,
    InputEntry,
    Manifest,
    Plan,
    Store,
    open_store,
    upload,
    write_manifest,
)
from clinical_modernbert.errors import CorpusError, GroupError, RunStopped, StoreError, StoreOutage
from clinical_modernbert.job import main, open_root
from clinical_modernbert.recipe import CorpusRecipe, MapRecipe

from tests.helpers.artifacts import publish_artifact

CORPUS = {
    "kind": "corpus",
    "name": "c",
    "sources": [{"type": "synthetic_notes", "name": "notes", "num_documents": 10}],
}


@pytest.fixture
def recipe_path(tmp_path: Path) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CORPUS))
    return str(path)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


def build(plan: Plan) -> Artifact:
    """A job that publishes one file."""
    local = Path(open_store(plan.store.uri).uri.removeprefix("file://")).parent / "shard.bin"
    local.write_bytes(b"shard")
    return plan.publish([upload(plan.store, plan.prefix, "shard.bin", local)], summary={})


def never(plan: Plan) -> Artifact:
    raise AssertionError("the job must not run")


def test_a_store_that_takes_no_output_is_refused_before_the_job_runs(
    recipe_path: str, root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/corpus").write_text("a file")
    with pytest.raises(SystemExit) as ended:
        main(CorpusRecipe, never, arguments=[recipe_path, "--root", root])
    assert ended.value.code == 2
    assert f"error: {root}: writing corpus/c-" in capsys.readouterr().err


def test_a_job_runs_once(recipe_path: str, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(CorpusRecipe, build, arguments=[recipe_path, "--root", root])
    first = capsys.readouterr().out
    assert first.startswith(f"{root}/corpus/c-")
    main(CorpusRecipe, never, arguments=[recipe_path, "--root", root, "--set", "scaling.num_cpus=1"])
    assert capsys.readouterr().out == first


def test_an_empty_key_for_signatures_ends_a_job_before_its_work(
    recipe_path: str, root: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLINICAL_MANIFEST_KEY", "")
    with pytest.raises(SystemExit) as ended:
        main(CorpusRecipe, never, arguments=[recipe_path, "--root", root])
    assert ended.value.code == 2
    assert "error: CLINICAL_MANIFEST_KEY is set and empty" in capsys.readouterr().err


@pytest.mark.parametrize("killed", ["before its manifest", "after it"])
def test_the_same_command_deletes_what_a_killed_run_left(killed: str, recipe_path: str, root: str) -> None:
    store = open_store(root)
    main(CorpusRecipe, build, arguments=[recipe_path, "--root", root])
    (artifact_id,) = store.names("corpus")
    if killed == "before its manifest":
        store.delete(f"corpus/{artifact_id}/manifest.json")
    for key in (f"work/corpus/{artifact_id}/parsed/0.json", f"corpus/{artifact_id}/shards/of-more-workers.npy"):
        store.write_bytes(key, b"left")
    store.write_bytes("work/corpus/other-1/parsed/0.json", b"of another build")
    main(CorpusRecipe, never if killed == "after it" else build, arguments=[recipe_path, "--root", root])
    assert [item.key for item in store.walk("")] == [
        f"corpus/{artifact_id}/manifest.json",
        f"corpus/{artifact_id}/shard.bin",
        "work/corpus/other-1/parsed/0.json",
    ]


def test_another_meaning_is_new_work(recipe_path: str, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(CorpusRecipe, build, arguments=[recipe_path, "--root", root])
    main(CorpusRecipe, build, arguments=[recipe_path, "--root", root, "--set", "held_out.seed=5"])
    main(
        CorpusRecipe,
        build,
        arguments=[recipe_path, "--root", root],
        raw_inputs=lambda recipe: (InputEntry(name="n.csv", id="notes", digest="0" * 64),),
    )
    assert len(set(capsys.readouterr().out.split())) == 3


def test_dry_run_shows_the_plan_and_does_nothing(
    recipe_path: str, root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [recipe_path, "--root", root, "--set", "held_out.seed=5"]
    main(CorpusRecipe, never, arguments=[*arguments, "--dry-run"])
    shown = capsys.readouterr().out
    resolved = yaml.safe_load(shown)
    assert resolved["held_out"] == {"fraction": 0.05, "seed": 5}
    assert CorpusRecipe.model_validate(resolved).model_dump(mode="json") == resolved
    assert "# finished: no" in shown
    assert not (tmp_path / "store").exists()

    main(CorpusRecipe, build, arguments=arguments)
    assert f"# output: {capsys.readouterr().out.strip()}\n" in shown
    main(CorpusRecipe, never, arguments=[*arguments, "--dry-run"])
    assert "# finished: yes" in capsys.readouterr().out


def corpus_fails(plan: Plan) -> Artifact:
    raise CorpusError("nothing was kept: 10 of 10 too_short")


@pytest.mark.parametrize(
    ("arguments", "run", "message"),
    [
        (["--set", "held_out.sed=1"], never, "held_out.sed: unknown key; did you mean 'held_out.seed'?"),
        (["--set", "held_out.fraction=2"], never, "held_out.fraction: Input should be less than 0.5 (got 2)"),
        (["--root", "ftp://host"], never, "the scheme must be file:// or s3://, not ftp://"),
        ([], corpus_fails, "nothing was kept: 10 of 10 too_short"),
    ],
)
def test_the_users_mistake_is_exit_code_2_and_one_message(
    recipe_path: str,
    root: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    run: Callable[[Plan], Artifact],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(CorpusRecipe, run, arguments=[recipe_path, "--root", root, *arguments])
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (StoreOutage("writing a failed with ConnectionError"), 3, "error: writing a failed with ConnectionError\n"),
        (GroupError("training a failed: lost"), 1, "error: training a failed: lost\n"),
        (RunStopped("a stopped after step 9"), 143, "stopped: a stopped after step 9\n"),
    ],
)
def test_what_the_same_command_continues_has_an_exit_code_of_its_own(
    error: Exception, code: int, message: str, recipe_path: str, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The input is not wrong: what runs the job may start it again."""

    def end(plan: Plan) -> Artifact:
        raise error

    with pytest.raises(SystemExit) as caught:
        main(CorpusRecipe, end, arguments=[recipe_path, "--root", root])
    assert caught.value.code == code
    assert capsys.readouterr().err.endswith(message)


def test_our_own_mistake_is_not_hidden(recipe_path: str, root: str) -> None:
    with pytest.raises(AssertionError, match="the job must not run"):
        main(CorpusRecipe, never, arguments=[recipe_path, "--root", root])


@pytest.mark.parametrize("command", [["--set", "optimizer.learning_rate=3e-4"], ["--set", "optimizer.learning_rat=1"]])
def test_real_job_dry_run_loads_neither_torch_nor_ray(repository: Path, tmp_path: Path, command: list[str]) -> None:
    """The real script in a real process: a recipe is checked in a second, wherever it is checked."""
    publish_corpus(tmp_path)
    script = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    heavy = {'torch', 'transformers', 'ray', 'deepspeed', 'kubernetes', 'streamlit'} & set(sys.modules)\n"
        "    sys.stderr.write(f'heavy modules: {sorted(heavy)}\\n')\n"
    )
    arguments = ["pretrain/demo", "--root", f"file://{tmp_path}", "--dry-run", *command]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['jobs/pretrain.py', *sys.argv[1:]]\n{script}", *arguments],
        cwd=repository, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "heavy modules: []" in done.stderr
    if "rat=1" in command[1]:
        assert done.returncode == 2
        assert "optimizer.learning_rat: unknown key" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "learning_rate: 0.0003" in done.stdout
        assert "# input: corpus corpus/demo-1" in done.stdout


def publish_corpus(folder: Path) -> None:
    write_manifest(
        open_store(str(folder)),
        "corpus/demo-1",
        Manifest(
            kind="corpus", id="demo-1", fingerprint="1", format_version=1, recipe={}, inputs=(), summary={}, files=()
        ),
    )


def test_root_comes_from_the_argument_then_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARTIFACT_ROOT", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert open_root().uri == f"file://{tmp_path}/artifacts"
    monkeypatch.setenv("ARTIFACT_ROOT", "/shared/store")
    assert open_root().uri == "file:///shared/store"
    assert open_root("elsewhere").uri == f"file://{tmp_path}/elsewhere"


@pytest.mark.parametrize("root", [None, "artifacts", "file://artifacts"])
def test_a_submitted_job_refuses_a_root_that_ends_with_it(monkeypatch: pytest.MonkeyPatch, root: str | None) -> None:
    monkeypatch.delenv("ARTIFACT_ROOT", raising=False)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(StoreError, match="is deleted after it"):
        open_root(root)
    assert open_root("file:///shared/store").uri == "file:///shared/store"


def test_a_job_waits_for_an_input_that_is_not_finished_yet(
    recipe_path: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first look finds no corpus; it is finished while the job sleeps."""
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"kind": "map", "name": "m", "model": "c"}))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        publish_artifact(open_store(root), "model", "c-1", tmp_path)

    monkeypatch.setattr("clinical_modernbert.artifacts.waiting.time.sleep", sleep)
    with pytest.raises(SystemExit) as ended:
        main(MapRecipe, never, arguments=[str(path), "--root", root])
    assert ended.value.code == 2
    assert "no model 'c' in" in capsys.readouterr().err

    with pytest.raises(AssertionError, match="the job must not run"):
        main(MapRecipe, never, arguments=[str(path), "--root", root, "--wait-for-inputs", "60"])
    assert slept == [30]


def test_a_job_with_retries_starts_again_after_a_failure(recipe_path: str, root: str, tmp_path: Path) -> None:
    """As a process, as KubeRay starts it: the first attempt breaks, the second one builds."""
    script = tmp_path / "job.py"
    script.write_text(
        "import functools, pathlib\n"
        "import clinical_modernbert.job as job\n"
        "from clinical_modernbert.recipe import CorpusRecipe\n"
        "job.run_attempts = functools.partial(job.run_attempts, pause_s=0)\n"
        "def run(plan):\n"
        "    seen = pathlib.Path(__file__).with_suffix('.seen')\n"
        "    if not seen.exists():\n"
        "        seen.touch()\n"
        "        raise RuntimeError('a worker died')\n"
        "    return plan.publish([], summary={})\n"
        "job.main(CorpusRecipe, run)\n"
    )
    command = [sys.executable, str(script), recipe_path, "--root", root, "--retries", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0 and done.stdout.startswith(f"{root}/corpus/c-"), done.stderr
    assert "RuntimeError: a worker died" in done.stderr and "attempt 1 of 2 ended with exit code 1" in done.stderr


def test_a_job_that_waits_for_its_inputs_waits_for_the_store_too(
    recipe_path: str, root: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a first install the pod of the trial store may start after the job."""
    answers: list[Exception] = [StoreOutage("no answer")]

    def open_late(address: str) -> Store:
        if answers:
            raise answers.pop()
        return open_store(address)

    monkeypatch.setattr("clinical_modernbert.job.open_store", open_late)
    monkeypatch.setattr("clinical_modernbert.artifacts.waiting.time.sleep", lambda seconds: None)
    main(CorpusRecipe, build, arguments=[recipe_path, "--root", root, "--wait-for-inputs", "60"])
    assert f"{root}/corpus/c-" in capsys.readouterr().out
