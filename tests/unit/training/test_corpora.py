"""A corpus or a mixture for each phase: rows, resume, accounts, held-out figures and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from clinical_modernbert.artifacts import Artifact, Store, open_store, write_manifest
from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.masking import token_ranges
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training import loop
from clinical_modernbert.training.corpora import open_corpora, pretrain_plan
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.phases import lay_out
from clinical_modernbert.training.start import batch_source
from clinical_modernbert.training.worker import Worker
from safetensors.torch import load_file

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan

CONSTANT = (
    *("optimizer.schedule=constant", "optimizer.warmup_fraction=0"),
    *("masking.rate_end=0.3", "masking.odds_end=4"),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two corpora of one tokenizer."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    publish_tiny_corpus(store, name="general")
    publish_tiny_corpus(store, name="notes", seed=1)
    return store


def phases(*corpora: str, steps: int = 6) -> tuple[str, str]:
    """Overrides of phases of equal length, each with these corpora; an empty text names none."""
    named = [f"{{sequence_length: 64, num_steps: {steps}, corpora: {{{of_phase}}}}}" for of_phase in corpora]
    return "training.num_steps=null", f"training.phases=[{', '.join(named)}]"


TWO = phases("general: 1", "notes: 1")


def trained(store: Store, *overrides: str, name: str = "run") -> Artifact:
    return pretrain_in_process(tiny_pretrain_plan(store, *overrides, corpus="general", name=name))


def points(model: Artifact, key: str = "loss") -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = json.loads(model.file("history.json").read_text())
    return [point for point in history if key in point]


def weights(model: Artifact) -> dict[str, torch.Tensor]:
    return load_file(model.file("model/model.safetensors"))


def assert_equal_to_the_bit(one: Artifact, other: Artifact) -> None:
    expected = weights(other)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(one).items())


@pytest.fixture(scope="module")
def two_phases(store: Store) -> Artifact:
    return trained(store, *TWO, "held_out_loss.every_steps=6", name="two")


def test_each_phase_reads_its_corpus_and_the_manifest_has_the_account(store: Store, two_phases: Artifact) -> None:
    general, notes = (f"{name}-" for name in ("general", "notes"))
    steps = points(two_phases)
    assert [next(iter(point["corpora"])).startswith(general) for point in steps] == [True] * 6 + [False] * 6
    assert all(point["tokens"] == sum(point["corpora"].values()) for point in steps)
    for number, account in enumerate(two_phases.summary["phases"]):
        of_phase = [point for point in steps if point["phase"] == number]
        assert (account["phase"], account["objective"], account["steps"]) == (number, "masked", 6)
        assert list(account["tokens"].values()) == [sum(point["tokens"] for point in of_phase)]
        assert account["predicted"] == sum(point["masked"] for point in of_phase)
        assert account["flops"] == sum(point["flops"] for point in of_phase)
        (corpus,) = account["tokens"]
        line = f"| {number + 1} | masked | 6 | {account['predicted']:,} | {corpus} | {account['tokens'][corpus]:,} |"
        assert line in (two_phases.folder("model") / "README.md").read_text()
    assert corpus.startswith(notes)
    assert two_phases.summary["training_tokens"] == sum(point["tokens"] for point in steps)
    inputs = {entry.name: entry.id for entry in two_phases.manifest.inputs}
    assert inputs["training.phases.1.corpora.0"] == f"corpus/{corpus}" and inputs["corpus"].startswith(
        "corpus/general-"
    )


def test_every_evaluation_scores_the_phase_and_what_is_kept_of_the_others(two_phases: Artifact) -> None:
    first, last = points(two_phases, "held_out")
    for point, name in ((first, "general-"), (last, "notes-")):
        (corpus,) = point["mixture"]
        assert corpus.startswith(name) and point["mixture"][corpus] == 1.0
        assert point["held_out"] == point["corpora"][corpus]["overall"] and len(point["corpora"]) == 2
    assert first["corpora"] != last["corpora"]
    assert two_phases.summary["held_out"] == last["held_out"]


def test_a_run_that_is_killed_after_the_border_resumes_before_it_to_the_bit(
    store: Store, two_phases: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_pretrain_plan(store, *TWO, "held_out_loss.every_steps=6", corpus="general", name="killed")
    real, started = loop.train_step, []

    def dies_at_step_8(*args: Any, step: int, **kwargs: Any) -> Any:
        started.append(step)
        if step == 8 and started.count(8) == 1:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", dies_at_step_8)
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    resumed = pretrain_in_process(plan)
    assert started[9] in (4, 8)
    assert_equal_to_the_bit(resumed, two_phases)
    assert resumed.summary["phases"] == two_phases.summary["phases"]


def test_a_phase_that_names_the_runs_corpus_is_that_of_a_run_without_phases(store: Store) -> None:
    plain = trained(store, "training.num_steps=6", name="plain")
    named = trained(store, *phases("general: 1"), name="named")
    assert [point["rows"] for point in points(named)] == [point["rows"] for point in points(plain)]
    assert_equal_to_the_bit(named, plain)


def test_a_mixture_is_divided_by_weight_whatever_the_number_of_workers(store: Store) -> None:
    recipe = tiny_pretrain_plan(store, *phases("general: 3, notes: 1", steps=40), corpus="general").recipe
    corpora = open_corpora(recipe, store)
    tokens = token_ranges(load_tokenizer(corpora["general"].folder("tokenizer")))

    def shares(world_size: int, step: int) -> list[Any]:
        workers = [Worker(rank, world_size, torch.device("cpu")) for rank in range(world_size)]
        return [batch_source(recipe, lay_out(recipe), corpora, tokens, worker).share(step) for worker in workers]

    found = [share for step in range(40) for share in shares(1, step)]
    sizes = [len(rows) for rows in batch_source(
        recipe, lay_out(recipe), corpora, tokens, Worker(0, 1, torch.device("cpu"))
    ).rows[64].ranges.values()]  # fmt: skip
    of_notes = sum(int((share.global_rows_R >= sizes[0]).sum()) for share in found)
    assert abs(of_notes / (40 * 16) - 0.25) < 0.05
    # Every row of notes is read about equally often: the order of each corpus is its own.
    assert len({int(row) for share in found for row in share.global_rows_R if row >= sizes[0]}) == sizes[1]
    whole, halves = shares(1, 3)[0], shares(2, 3)
    assert [list(half.global_rows_R) for half in halves] == [list(whole.global_rows_R)] * 2
    assert sum(half.tokens_C for half in halves).tolist() == whole.tokens_C.tolist() and min(whole.tokens_C) > 0


def test_held_out_figures_of_a_mixture_are_the_weighted_mean(store: Store) -> None:
    model = trained(store, *phases("general: 3, notes: 1", steps=2), name="mixed")
    (point,) = points(model, "held_out")
    general, notes = (figures["overall"] for figures in point["corpora"].values())
    for name, value in point["held_out"].items():
        assert value == pytest.approx(0.75 * general[name] + 0.25 * notes[name])
    (account,) = model.summary["phases"]
    assert len(account["tokens"]) == 2 and sum(account["tokens"].values()) == model.summary["training_tokens"]


def test_a_phase_continues_in_the_rows_where_its_corpus_stopped(store: Store) -> None:
    recipe = tiny_pretrain_plan(
        store, *phases("general: 1", "notes: 1", "general: 1, notes: 1", "notes: 1"), corpus="general"
    ).recipe
    first_rows = [phase.mixture.first_rows for phase in lay_out(recipe)]
    assert first_rows[:3] == [(0,), (0,), (96, 96)]
    mixed = lay_out(recipe)[2].mixture
    assert first_rows[3] == (int(mixed.taken(96, seed=0)[1]),) and 96 + 30 < first_rows[3][0] < 96 + 66


def test_a_second_phase_branches_from_a_kept_state(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extended by a phase on another corpus, a run ends as if it had both phases from the beginning."""
    keep = ("checkpoint.keep_after_export=true", "checkpoint.keep=null", "training.num_steps=6")
    parent = trained(store, *CONSTANT, *keep, name="parent")
    whole = trained(store, *CONSTANT, *TWO, name="whole")
    branch = trained(store, *CONSTANT, *TWO, "training.continue_from=parent@6", name="branch")
    assert_equal_to_the_bit(branch, whole)
    before, own = branch.summary["phases"]
    assert before == {**parent.summary["phases"][0], "phase": None} and own == whole.summary["phases"][1]
    assert "| before | masked | 6 |" in (branch.folder("model") / "README.md").read_text()


def test_losses_of_an_earlier_phase_are_no_measure_of_a_spike(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first loss on another corpus may be a multiple of the last ones."""
    real = loop.train_step

    def higher_from_step_6(context: Any, share: Any, *, step: int, signals: Any) -> Any:
        result = real(context, share, step=step, signals=signals)
        return replace(result, loss=50.0) if step >= 6 else result

    monkeypatch.setattr(loop, "train_step", higher_from_step_6)
    spikes = ("stability.spike_factor=2", "stability.window_steps=3")
    trained(store, *TWO, *spikes, name="higher")
    with pytest.raises(ModelError, match=r"step 6: the loss 50\.0000 is above 2 times its median"):
        trained(store, *spikes, name="spike")


def test_another_corpus_of_a_phase_is_another_run(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    general = publish_tiny_corpus(store, name="general")
    publish_tiny_corpus(store, name="notes", seed=1)
    by_name = tiny_pretrain_plan(store, *TWO, corpus="general")
    ids = phases(f"{general.manifest.id}: 1", "notes: 1")
    assert tiny_pretrain_plan(store, *ids, corpus="general").id == by_name.id
    assert tiny_pretrain_plan(store, *phases("notes: 1", "general: 1"), corpus="general").id != by_name.id
    for key in list(store.names("corpus")):
        if key.startswith("notes-"):
            store.clear(f"corpus/{key}")
    publish_tiny_corpus(store, name="notes", seed=2)
    assert tiny_pretrain_plan(store, *TWO, corpus="general").id != by_name.id


def test_a_corpus_of_another_tokenizer_is_refused_with_the_way_out(store: Store) -> None:
    publish_tiny_corpus(store, num_documents=60, name="foreign")
    plan = tiny_pretrain_plan(store, *phases("general: 1", "foreign: 1"), corpus="general")
    message = (
        r"training\.phases\.1\.corpora\.0: corpus foreign-\w+ has another tokenizer than general-.*tokenizer\.base"
    )
    with pytest.raises(RecipeError, match=message):
        pretrain_plan(plan.recipe, store)
    with pytest.raises(RecipeError, match=message):
        pretrain_in_process(plan)


def test_a_corpus_with_another_held_out_split_is_refused(store: Store) -> None:
    """What one corpus holds out the other would train on."""
    notes = publish_tiny_corpus(store, name="notes", seed=1).manifest
    recipe = {**notes.recipe, "name": "split", "held_out": {"fraction": 0.2, "seed": 0}}
    other = notes.model_copy(update={"id": "split-0", "recipe": recipe})
    for item in list(store.walk(f"corpus/{notes.id}")):
        if not item.key.endswith("manifest.json"):
            store.write_bytes(item.key.replace(notes.id, other.id), store.read_bytes(item.key))
    write_manifest(store, f"corpus/{other.id}", other)
    plan = tiny_pretrain_plan(store, *phases("general: 1", "split: 1"), corpus="general")
    with pytest.raises(RecipeError, match=r"corpus split-0 was built with held_out=\{'fraction': 0.2.*held out in one"):
        pretrain_in_process(plan)


@pytest.mark.parametrize(
    ("corpora", "message"),
    [
        ("general: 1, notes: 0", r"corpora\.notes: .*greater than 0"),
        ("general: 1, notes: 0.0005", "the weight of notes is below a thousandth"),
    ],
)
def test_weights_that_give_no_rows_are_refused(store: Store, corpora: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny_pretrain_plan(store, *phases(corpora), corpus="general")


def test_a_corpus_that_is_named_twice_is_refused(store: Store) -> None:
    general = publish_tiny_corpus(store, name="general").manifest.id
    with pytest.raises(RecipeError, match=rf"training\.phases\.0\.corpora names one corpus twice: {general}"):
        trained(store, *phases(f"general: 1, {general}: 1"), name="twice")
