"""Rivals are read as their authors meant: own tokenizer and casing, pooling, length, prompts, and a rate that suits them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from clinical_modernbert.artifacts import InputEntry, Manifest, Store, find_artifact, open_store, write_manifest
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import BASELINES, LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.fingerprint_inputs import task_inputs
from clinical_modernbert.evaluation.heads import load_base
from clinical_modernbert.evaluation.report.contamination import contamination
from clinical_modernbert.evaluation.tuning import DivergedError, Problem, tune, tune_best_rate
from clinical_modernbert.recipe.tasks import EncoderSection, SentenceRolesTask, TuningSection
from clinical_modernbert.tokenizer import load_tokenizer, tokenizer_options
from safetensors.torch import load_file, save_file

_POOLING = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def resolved(folder: Path, **fields: object) -> LocalEncoder:
    return resolve_encoder(EncoderSection.model_validate({"name": "tiny", "source": str(folder), **fields}))


@pytest.fixture
def folder(encoder_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may change."""
    shutil.copytree(encoder_folders["bert"], tmp_path / "bert")
    return tmp_path / "bert"


def test_a_folder_without_its_tokenizer_is_refused(folder: Path) -> None:
    """transformers would make a tokenizer of five tokens: every text would be read as [UNK]."""
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"encoders\[tiny\].source: .* has no tokenizer"):
        resolved(folder)
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_tokenizer(folder)


def test_the_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 50_000}))
    with pytest.raises(ModelError, match="tokens, its model 50000: they do not belong together"):
        load_tokenizer(folder)


@pytest.mark.parametrize(("words", "lower"), [("[UNK] COPD chest", False), ("[UNK] copd chest ##ing", True)])
def test_a_bare_vocabulary_says_its_casing(tmp_path: Path, words: str, lower: bool) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(words.split()))
    assert tokenizer_options(tmp_path) == {"do_lower_case": lower}
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert tokenizer_options(tmp_path) == {}


def test_a_sentence_transformers_folder_keeps_its_own_pooling_length_and_prompts(folder: Path) -> None:
    plain = resolved(folder)
    assert (plain.pooling, plain.max_tokens, plain.query_prompt) == ("cls", 64, "")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(_POOLING))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32}))
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    own = resolved(folder)
    assert (own.pooling, own.max_tokens, own.query_prompt, own.document_prompt) == ("mean", 32, "query: ", "passage: ")
    assert own.digest != plain.digest
    said = resolved(folder, pooling="cls", max_tokens=16, query_prompt="")
    assert (said.pooling, said.max_tokens, said.query_prompt, said.document_prompt) == ("cls", 16, "", "passage: ")


@pytest.mark.parametrize("mode", ["pooling_mode_max_tokens", "pooling_mode_weightedmean_tokens"])
def test_another_pooling_is_refused(folder: Path, mode: str) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({mode: True}))
    with pytest.raises(ModelError, match=rf"pools by {mode} .*known are"):
        resolved(folder)


def test_rivals_with_safetensors_on_a_revision_are_read_from_it() -> None:
    assert BASELINES["bioclinicalbert"].revision == "ce9e77baa79d882eeb7fc51b8e1dd580ea918a1b"
    with pytest.raises(ModelError, match="hf download yikuan8/Clinical-Longformer --revision refs/pr/1"):
        resolve_encoder(EncoderSection(name="clinical-longformer"))


def test_a_report_names_the_commit_of_an_encoder_from_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub/models--lab--mine"
    (repository / "snapshots").mkdir(parents=True)
    folder.rename(repository / "snapshots" / commit)
    (repository / "refs/refs/pr").mkdir(parents=True)
    (repository / "refs/refs/pr/1").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    section = EncoderSection(name="mine", source="lab/mine", revision="refs/pr/1")
    assert resolve_encoder(section).origin == f"lab/mine@{commit}"


def test_baselines_are_compared_at_one_commit() -> None:
    moving = [name for name, of in BASELINES.items() if not re.fullmatch(r"[0-9a-f]{40}", of.revision or "")]
    assert moving == ["clinical-longformer", "clinical-modernbert"]
    documented = (Path(__file__).parents[3] / "docs/evaluation.md").read_text()
    assert all(f"`{name}` is" in documented or f"and `{name}`" in documented for name in moving)


def test_a_weight_that_is_not_a_number_is_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][7, 3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"encoder tiny .*: 1 weights are not finite, the first is .*word_embeddings"):
        load_base(resolved(folder))


def line() -> tuple[torch.nn.Module, Problem]:
    """Fit y = 2 x: the development figure is minus the error."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    x_N = torch.linspace(-1, 1, 16)[:, None]

    def error(members: list[int]) -> torch.Tensor:
        return ((model(x_N[members]) - 2 * x_N[members]) ** 2).sum()

    ones = [1] * 16
    return model, Problem(ones, ones, error, lambda: -float(error(list(range(16))).detach()))


def section(**fields: object) -> TuningSection:
    return TuningSection.model_validate({"batch_size": 4, "num_epochs": 5, "weight_decay": 0.0, **fields})


def test_the_rate_is_chosen_on_the_development_part() -> None:
    found = tune_best_rate(line, section=section(learning_rates=[1e-6, 0.3, 1e-4]), seed=0, max_batch_tokens=100)
    assert found.rate == 0.3 and found.epochs[found.number].development > -0.5
    alone = tune_best_rate(line, section=section(learning_rate=1e-4), seed=0, max_batch_tokens=100)
    assert alone.rate == 1e-4


def test_a_rate_that_diverges_is_left_out_and_one_alone_is_refused() -> None:
    def broken() -> tuple[torch.nn.Module, Problem]:
        model, problem = line()
        return model, Problem(problem.lengths, problem.targets, problem.loss_sum, lambda: float("nan"))

    makes = iter([broken, line])
    found = tune_best_rate(
        lambda: next(makes)(), section=section(learning_rates=[1.0, 0.1]), seed=0, max_batch_tokens=100
    )
    assert found.rate == 0.1
    with pytest.raises(DivergedError, match="the development figure of epoch 1 is nan"):
        tune_best_rate(broken, section=section(), seed=0, max_batch_tokens=100)


def test_a_small_training_part_gets_more_passes_until_its_steps_are_done() -> None:
    """Four steps a pass: 30 steps are eight passes."""
    for fields, passes in (({}, 5), ({"min_steps": 30}, 8), ({"min_steps": 12}, 5)):
        model, problem = line()
        epochs, _ = tune(model, problem, section=section(patience=99, **fields), seed=0, max_batch_tokens=100)
        assert len(epochs) == passes


def publish(
    store: Store,
    kind: str,
    name: str,
    recipe: dict[str, object],
    inputs: tuple[InputEntry, ...] = (),
    *,
    summary: dict[str, object] | None = None,
) -> None:
    manifest = Manifest(
        kind=kind,
        id=name,
        fingerprint="0" * 12,
        format_version=1,
        recipe=recipe,
        inputs=inputs,
        summary=summary or {},
        files=(),
    )
    write_manifest(store, f"{kind}/{name}", manifest)


def test_the_report_says_what_the_lineage_knows_of_each_set(tmp_path: Path) -> None:
    for name in ("in.txt", "out.txt"):
        path = tmp_path / "data" / name.partition(".")[0] / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    data = str(tmp_path / "data")
    tasks = [
        SentenceRolesTask(name="covered", type="sentence_roles", train="in/in.txt"),
        SentenceRolesTask(name="bare", type="sentence_roles", train="out/out.txt"),
    ]
    store = open_store(str(tmp_path / "store"))
    corpus = {
        "kind": "corpus",
        "name": "c",
        "sources": [{"type": "synthetic_notes", "name": "n", "num_documents": 1}],
        "decontamination": {"paths": [f"{data}/in"]},
    }
    publish(store, "corpus", "c-1", corpus)
    publish(store, "corpus", "c-2", corpus | {"decontamination": {"paths": ["s3://bucket/sets"]}})
    of_corpus = InputEntry(name="corpus", id="corpus/c-1", digest="1")
    publish(store, "model", "m-1", {"model": {"init": "scratch"}}, (of_corpus,))
    publish(
        store, "model", "m-2", {"model": {"init": "scratch"}}, (InputEntry(name="corpus", id="corpus/c-2", digest="2"),)
    )
    publish(store, "model", "tuned-1", {}, (of_corpus, *task_inputs(tasks[1], data)))

    def known(model: str | None) -> dict[str, str]:
        artifact = find_artifact(store, "model", model) if model else None
        return contamination(LocalEncoder("e", tmp_path, "0", "", "bert", "cls", artifact=artifact), tasks, data)

    assert known("m-1") == {
        "covered": "decontaminated",
        "bare": "not decontaminated: c-1 was not compared with this set",
    }
    # Whether an address in S3 holds the set is not looked up, so "not decontaminated" would be a guess.
    assert set(known("m-2").values()) == {"unknown: c-2 was compared with sets in S3, whose files are not looked up"}
    assert known("tuned-1")["bare"] == "seen: the model was fine-tuned on this set"
    assert set(known(None).values()) == {"unknown: not trained by this platform"}
    # What a model read before counts too: in the run that it continues, in the models of an average, in its initial weights.
    publish(store, "corpus", "c-3", corpus | {"decontamination": {"paths": []}})
    bare = "not decontaminated: c-3 was not compared with this set"
    before = {"phases": [{"tokens": {"c-3": 5}}, {"tokens": {"c-1": 5}}]}
    publish(store, "model", "branch-1", {"kind": "pretrain"}, (of_corpus,), summary=before)
    assert known("branch-1")["covered"] == bare
    parts = [
        InputEntry(name=f"models.{n}.source", id=f"model/{of}", digest="3")
        for n, of in enumerate(("m-1", "branch-1@9"))
    ]
    publish(store, "model", "average-1", {"kind": "merge"}, (of_corpus, *parts))
    assert known("average-1")["covered"] == bare
    hub = InputEntry(name="model.init", id=f"org/base@{'0' * 40}", digest="4")
    publish(store, "model", "m-3", {"kind": "pretrain"}, (of_corpus, hub))
    assert known("m-3")["covered"] == "decontaminated; what org/base had read before is unknown"
    # Vectors: what the encoder before had read, and the pairs.
    pairs = {"kind": "pairs", "name": "p", "sources": [{"type": "gem", "name": "crosswalk"}]}
    publish(store, "pairs", "p-1", pairs)
    publish(store, "pairs", "p-2", pairs | {"decontamination": {"paths": [f"{data}/in"]}})
    for name, start, of_pairs in (("v-1", "m-1", "p-2"), ("v-2", "branch-1", "p-2"), ("v-3", "m-1", "p-1")):
        inputs = (
            InputEntry(name="init", id=f"model/{start}", digest="6"),
            InputEntry(name="pairs", id=f"pairs/{of_pairs}", digest="7"),
        )
        publish(store, "model", name, {"kind": "contrast", "training": {"split": "train"}}, (of_corpus, *inputs))
    assert known("v-1")["covered"] == "decontaminated"
    assert known("v-2")["covered"] == bare
    assert known("v-3")["covered"] == "not decontaminated: p-1 was not compared with this set"
    of_average = InputEntry(name="model.init", id="model/average-1", digest="5")
    publish(store, "model", "m-4", {"kind": "pretrain"}, (of_corpus, of_average))
    assert known("m-4")["covered"] == bare
