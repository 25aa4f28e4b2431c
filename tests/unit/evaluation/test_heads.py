"""Encoders under evaluation: which are found and which are refused, their limits, and their new heads."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from clinical_modernbert.encoder import embed_ids, load_with_new_head
from clinical_modernbert.encoder.forward import logits as run_head
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import BASELINES, EncoderAbsentError, resolve_encoder
from clinical_modernbert.evaluation.fingerprint_inputs import present_encoders
from clinical_modernbert.evaluation.heads import load_head
from clinical_modernbert.evaluation.tasks.examples import WordExample
from clinical_modernbert.evaluation.tasks.windows import encode_texts, encode_words
from clinical_modernbert.recipe.tasks import EncoderSection
from clinical_modernbert.tokenizer import load_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification, AutoTokenizer

IDS = [[1, *range(10, 40), 2], [1, 7, 8, 2], [1, *range(50, 63), 2]]
LABELS = ["a", "b", "c"]


def encoder(folder: Path, **fields: object):
    return resolve_encoder(EncoderSection(name="tiny", source=str(folder), **fields))


def test_the_seed_draws_the_head_and_leaves_the_callers_stream_alone(encoder_folders: dict[str, Path]) -> None:
    folder = encoder(encoder_folders["bert"])
    torch.manual_seed(3)
    before = torch.rand(2)
    torch.manual_seed(3)
    first, second, other = (
        load_head(folder, "token", labels=LABELS, seed=seed).classifier.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.rand(2), before)


def test_an_encoder_that_lacks_weights_is_refused(encoder_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(encoder_folders["modernbert"], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "layers.1" not in k}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match="does not fit a AutoModelForTokenClassification"):
        load_head(encoder(tmp_path), "token", labels=LABELS, seed=0)


def test_pickled_weights_wrong_limits_and_unknown_names_are_refused(
    encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(encoder_folders["bert"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        encoder(tmp_path)
    with pytest.raises(ModelError, match="beyond the model's limit of 64"):
        encoder(encoder_folders["bert"], max_tokens=65)
    with pytest.raises(ModelError, match="'biobrt' is not a baseline; baselines are bert-base-uncased, biobert"):
        resolve_encoder(EncoderSection(name="biobrt"))
    with pytest.raises(ModelError, match="is not a finished model; expected <store>/model/"):
        resolve_encoder(EncoderSection(name="x", source=f"file://{tmp_path}/model/none-0123"))


def test_a_replaced_weight_changes_the_digest(encoder_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(encoder_folders["bert"], tmp_path, dirs_exist_ok=True)
    before = encoder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights[next(iter(weights))][0] += 1
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    after = encoder(tmp_path)
    assert before.digest == encoder(encoder_folders["bert"]).digest != after.digest


def test_an_absent_baseline_is_named_with_the_way_to_fetch_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    section = EncoderSection(name="biobert")
    present, absent = present_encoders((section,))
    assert not present and "hf download dmis-lab/biobert" in absent["biobert"]
    # A hub id that was asked for by name is an error, not a gap in a report.
    with pytest.raises(ModelError) as caught:
        resolve_encoder(EncoderSection(name="mine", source="someone/some-model"))
    assert not isinstance(caught.value, EncoderAbsentError)


def test_a_model_in_the_offline_cache_is_found(
    encoder_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"models--{BASELINES['distilbert'].hub_id.replace('/', '--')}"
    shutil.copytree(encoder_folders["bert"], repository / "snapshots" / str(BASELINES["distilbert"].revision))
    found = resolve_encoder(EncoderSection(name="distilbert"))
    assert (found.max_tokens, found.architecture) == (64, "bert")


def test_longformers_positions_beyond_the_padding_id_hold_no_token(
    encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(encoder_folders["bert"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"model_type": "longformer", "max_position_embeddings": 4098, "pad_token_id": 1})
    )
    assert encoder(tmp_path).max_tokens == 4096


@pytest.mark.parametrize(
    "architecture",
    [
        "mpnet",
        "data2vec-text",
        "ibert",
        "roberta-prelayernorm",
        "bert",
        "electra",
        "roberta",
        "camembert",
        "xlm-roberta",
    ],
)
def test_a_text_beyond_the_limit_of_any_architecture_is_cut_and_embedded(
    architecture: str, encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder_folders["bert"])
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = AutoConfig.for_model(
        architecture, vocab_size=len(tokenizer), max_position_embeddings=34, pad_token_id=1, **shape
    )
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = encoder(tmp_path)
    ids, num_cut = encode_texts(tokenizer, ["heparin " * 60, "aspirin"], max_tokens=found.max_tokens)
    assert (num_cut, len(ids[0])) == (1, found.max_tokens)
    model = load_with_new_head(found.folder, "embedding").eval()
    assert embed_ids(model, ids, pooling="mean", max_batch_tokens=1000).shape == (2, 16)


def test_a_baseline_with_pickled_weights_is_left_out_and_the_others_stay(
    encoder_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from clinical_modernbert.evaluation import encoders

    shutil.copytree(encoder_folders["bert"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(encoders, "_cached", lambda *_: tmp_path)
    other = EncoderSection(name="mine", source=str(encoder_folders["bert"]))
    present, absent = present_encoders((EncoderSection(name="biobert"), other))
    assert [encoder.name for encoder in present] == ["mine"]
    assert "pickled weights are not loaded: convert them once" in absent["biobert"]


def test_a_document_of_8192_tokens_is_one_packed_input(tmp_path: Path, encoder_folders: dict[str, Path]) -> None:
    shutil.copytree(encoder_folders["modernbert"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {"max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps(config))
    long = encoder(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    text = " ".join(["heparin"] * 12_000)
    ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    num_words = ends[8190 - 1][1] // 8
    spans = tuple((8 * number, 8 * number + 7) for number in range(num_words))
    example = WordExample("1", "1", text[: spans[-1][1]], spans, ("B-Drug",) * num_words)
    (window,) = encode_words(tokenizer, [example], max_tokens=long.max_tokens, stride=0.5)
    assert 8180 < len(window.ids) <= 8192 and len(window.words) == num_words

    model = load_head(long, "token", labels=LABELS, seed=0).eval()
    logits = run_head(model, [window.ids, IDS[0]])
    logits.sum().backward()
    assert model.model.embeddings.tok_embeddings.weight.grad.abs().sum() > 0
    model.save_pretrained(tmp_path / "saved")
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "saved", attn_implementation="sdpa").eval()
    with torch.inference_mode():
        expected = plain(input_ids=torch.tensor([window.ids])).logits[0]
    assert torch.allclose(logits[: len(window.ids)], expected, atol=1e-4)
