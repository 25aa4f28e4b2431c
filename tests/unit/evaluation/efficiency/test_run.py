"""Figure 3: both tokenizers give the same ids, each protocol does what its name says, and every round is kept."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from clinical_modernbert.encoder.forward import padded_states, states
from clinical_modernbert.evaluation.efficiency.run import attend, efficiency_report, time_texts
from clinical_modernbert.evaluation.efficiency.texts import slow_tokenizer, synthetic_texts, timed_tokenizer
from clinical_modernbert.evaluation.encoders import LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.heads import load_base
from clinical_modernbert.evaluation.report.figures import figure_3
from clinical_modernbert.evaluation.report.plots import PROTOCOLS
from clinical_modernbert.recipe.evaluate import EfficiencySection, EvaluateScaling
from clinical_modernbert.recipe.tasks import EncoderSection
from clinical_modernbert.tokenizer import load_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.nn.modules.module import register_module_forward_hook
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = {
    name: f"[{name[:-6].upper()}]" for name in ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
}
WORDS = ["Aspirin", "aspirin", "for", "Mr", ".", "##s", "pain", "Crohn", "caf", "##é", "cafe", "##e", "(", ")", "5"]
TEXTS = ["Aspirin for Mr . Crohns pain", "aspirin (5) café CAFÉ unknown", "", "pain " * 40]
SECTION = EfficiencySection(num_texts=(3, 6), num_tokens=16, num_rounds=2, batch_size=2)
SCALING = EvaluateScaling(num_cpus=1, max_batch_tokens=64)


@pytest.fixture(params=[True, False], ids=["cased", "uncased"])
def bert(request: pytest.FixtureRequest, tmp_path: Path) -> LocalEncoder:
    """A BERT with its own WordPiece vocabulary, which its configuration does not call cased."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL.values(), *WORDS])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=not request.param)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL).save_pretrained(tmp_path)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=64)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path)
    return resolve_encoder(EncoderSection(name="bert", source=str(tmp_path), max_tokens=32))


def test_the_slow_tokenizer_gives_the_ids_of_the_fast_one(bert: LocalEncoder) -> None:
    slow, slow_name = timed_tokenizer(bert, max_tokens=12, slow=True)
    fast, fast_name = timed_tokenizer(bert, max_tokens=12, slow=False)
    assert (slow_name, fast_name) == ("slow (Python)", "fast (Rust)")
    ids = fast(TEXTS)
    assert slow(TEXTS) == ids
    assert [len(text) for text in ids][2:] == [2, 12]
    cased = "Aspirin" in load_tokenizer(bert.folder).convert_ids_to_tokens(ids[0])
    assert cased == (not json.loads((bert.folder / "tokenizer.json").read_text())["normalizer"]["lowercase"])


def test_a_tokenizer_that_is_not_berts_stays_fast(encoder_folders: dict[str, Path]) -> None:
    assert slow_tokenizer(load_tokenizer(encoder_folders["bert"])) is None
    encoder = resolve_encoder(EncoderSection(name="bpe", source=str(encoder_folders["bert"])))
    assert timed_tokenizer(encoder, max_tokens=12, slow=True)[1] == "fast (Rust)"


def test_texts_are_of_one_length_or_mixed() -> None:
    assert {len(text.split()) for text in synthetic_texts(5, num_words=32, mixed=False)} == {32}
    lengths = [len(text.split()) for text in synthetic_texts(200, num_words=64, mixed=True)]
    assert 28 < sum(lengths) / 200 < 36 and len(set(lengths)) > 10 and max(lengths) <= 64


@pytest.mark.parametrize("architecture", ["modernbert", "bert"])
def test_padded_states_are_the_packed_ones(architecture: str, encoder_folders: dict[str, Path]) -> None:
    base = load_base(resolve_encoder(EncoderSection(name="tiny", source=str(encoder_folders[architecture]))))
    ids = [[1, *range(10, 40), 2], [1, 7, 8, 2], [1, *range(50, 63), 2]]
    with torch.inference_mode():
        packed = states(base, ids)
        attend(base, "as_its_code", SCALING)
        padded = padded_states(base, ids)
        attend(base, "fair", SCALING)
        again = states(base, ids)
    assert torch.allclose(padded, packed, atol=1e-5)
    assert torch.equal(again, packed)


@pytest.mark.parametrize(
    ("architecture", "protocol", "shapes", "gradients"),
    [
        # Texts of 40, 10, 20, 10 and 30 tokens: in twos as they come and padded, or longest first and up to 64 tokens a pass.
        ("bert", "as_its_code", [(2, 40), (2, 20), (1, 30)], True),
        ("bert", "as_its_text", [(2, 40), (2, 20), (1, 30)], False),
        ("bert", "fair", [(1, 40), (3, 30), (1, 10)], False),
        ("modernbert", "as_its_code", [(2, 40), (2, 20), (1, 30)], True),
        ("modernbert", "as_its_text", [(50,), (30,), (30,)], False),
        ("modernbert", "fair", [(40,), (60,), (10,)], False),
    ],
)
def test_each_protocol_does_what_its_name_says(
    architecture: str, protocol: str, shapes: list[tuple[int, int]], gradients: bool, encoder_folders: dict[str, Path]
) -> None:
    base = load_base(resolve_encoder(EncoderSection(name="tiny", source=str(encoder_folders[architecture]))))
    attend(base, protocol, SCALING)
    seen = []
    base.embeddings.register_forward_hook(
        lambda module, args, kwargs, out: seen.append((tuple(out.shape[:-1]), out.requires_grad)),
        with_kwargs=True,
    )
    lengths = dict(zip("abcde", (40, 10, 20, 10, 30), strict=True))
    timed = time_texts(
        base, lambda texts: [[5] * lengths[text] for text in texts], list(lengths), protocol, section=SECTION,
        scaling=SCALING,
    )  # fmt: skip
    assert seen == [(shape, gradients) for shape in shapes]
    assert timed.tokens == 110
    assert timed.seconds == timed.tokenizing_s + timed.encoding_s > 0
    assert timed.memory_bytes is None or torch.cuda.is_available()


def test_the_report_keeps_every_round_and_warms_up_before(
    bert: LocalEncoder, encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    ours = resolve_encoder(EncoderSection(name="ours", source=str(encoder_folders["modernbert"])))
    folder = tmp_path / "out"
    folder.mkdir()
    calls: list[str] = []
    hook = register_module_forward_hook(lambda module, args, out: calls.append(type(module).__name__))
    report = efficiency_report(SECTION, [bert, ours], folder=folder, scaling=EvaluateScaling(num_cpus=1))
    hook.remove()

    # Two protocols take 2 + 3 batches in each of two rounds, the fair one 1 + 1; each has a batch before the clock starts.
    assert calls.count("BertEmbeddings") == calls.count("ModernBertEmbeddings") == 2 * (1 + 2 * 5) + (1 + 2 * 2)
    rows = pq.read_table(folder / "figure3.parquet").to_pylist()
    assert len(rows) == len(PROTOCOLS) * 2 * 2 * 2
    assert list(report.protocols) == list(report.arithmetic) == list(PROTOCOLS)
    for protocol, encoders in report.protocols.items():
        for encoder, points in encoders.items():
            assert [point.texts for point in points] == [3, 6]
            for point in points:
                kept = [
                    r for r in rows if (r["protocol"], r["encoder"], r["texts"]) == (protocol, encoder, point.texts)
                ]
                assert [row["seconds"] for row in kept] == point.seconds and len(kept) == 2
                assert point.texts_per_second == pytest.approx(point.texts / point.mean_seconds)
                assert point.tokens == kept[0]["tokens"]
    assert report.tokenizers["as_its_code"] == {"bert": "slow (Python)", "ours": "fast (Rust)"}
    assert set(report.tokenizers["fair"].values()) == {"fast (Rust)"}
    fixed = [encoders["bert"][1].tokens for encoders in report.protocols.values()]
    assert fixed[1] == 6 * SECTION.num_tokens > fixed[0] == fixed[2]
    assert (folder / "figure3.png").read_bytes().startswith(b"\x89PNG")

    _title, text, table = figure_3(report)
    assert "117 texts a second" in text and "1.62 times the fastest" in text and "CPU, 1 thread(s)" in text
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert len(lines) == 2 + len(PROTOCOLS) * 2 * 2
    times = {(line[0], line[1], line[3]): float(line[7]) for line in lines[2:]}
    for protocol in PROTOCOLS.values():
        assert min(times[protocol, encoder, "6"] for encoder in ("bert", "ours")) == 1
    seconds = report.protocols["fair"]["ours"][1].seconds
    assert any(f"({min(seconds):,.2f} to {max(seconds):,.2f})" in line[5] for line in lines)
