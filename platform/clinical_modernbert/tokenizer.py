"""The tokenizer: a base BPE with clinical words added as whole tokens.

A clinical word is added to the BPE vocabulary without merges that build it, and BPE looks up whole words before it merges
(``ignore_merges``). So the token matches the whole word and never part of another ("flu" in "influence"), keeps its space
("took warfarin" is two tokens and decodes to itself), and does not change the tokens of other words. Added tokens of the
tokenizers library can't do this: they need a separate space token or lose the space on decoding. Only words of one run of
letters are added; phrases are not.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.vocabulary import TOKENIZER_FILES

SPECIAL_TOKENS = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
_VOCABULARY_MULTIPLE = 64
_CLASS_OF_TRANSFORMERS_5 = "TokenizersBackend"  # its new name of PreTrainedTokenizerFast, which it loads by both names
_SPACE = "Ġ"  # how byte-level BPE writes a leading space


def build_tokenizer(
    section: TokenizerSection, texts: Iterable[str], *, clinical_words: Set[str]
) -> PreTrainedTokenizerFast:
    """Return the recipe's tokenizer; ``texts`` are read once for each of training and counting, and may be any iterable.

    ``clinical_words`` are lower-case; of the spellings found in ``texts`` the most frequent become tokens.
    """
    texts = texts if isinstance(texts, list) else list(texts)
    if section.base == "train":
        base = _train(texts, vocabulary_size=section.vocabulary_size - section.num_clinical_tokens)
    else:
        base = load_base(section.base)
    spellings = frequent_spellings(base, texts, words=clinical_words, count=section.num_clinical_tokens)
    return add_clinical_words(base, spellings)


def load_base(base: str, *, field: str = "tokenizer.base") -> PreTrainedTokenizerFast:
    """Load a byte-level BPE tokenizer with ModernBERT's special tokens from a hub id or a folder; errors name ``field``."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError) as error:
        incomplete = Path(base).is_dir() and not (Path(base) / "tokenizer.json").is_file()
        reason = "the folder has no tokenizer.json" if incomplete else str(error).splitlines()[0]
        raise RecipeError(f"{field}: cannot load the tokenizer of {base!r}: {reason}") from None
    absent = [name for name in SPECIAL_TOKENS if getattr(tokenizer, f"{name}_token_id", None) is None]
    kind = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"]
    if absent or kind != "BPE":
        raise RecipeError(
            f"{field}: {base!r} is a {kind} tokenizer without {absent or 'nothing'}; "
            "a byte-level BPE with [UNK], [CLS], [SEP], [PAD] and [MASK] is needed"
        )
    return tokenizer


def _train(texts: list[str], *, vocabulary_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk"]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    cls_id, sep_id = (tokenizer.token_to_id(SPECIAL_TOKENS[name]) for name in ("cls", "sep"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)],
    )
    return _wrap(tokenizer)


def frequent_spellings(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], *, words: Set[str], count: int
) -> list[str]:
    """Return the ``count`` most frequent spellings of ``words`` that the tokenizer splits, as vocabulary entries.

    A spelling carries its leading space (``Ġ``) and its case; ties are ordered by spelling.
    """
    if count == 0:
        return []
    backend = tokenizer.backend_tokenizer
    known = backend.get_vocab(with_added_tokens=True)
    counts: Counter[str] = Counter()
    for text in texts:
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        counts.update(piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    found = [(-n, s) for s, n in counts.items() if s not in known and s.removeprefix(_SPACE).lower() in words]
    return [spelling for _, spelling in sorted(found)[:count]]


def add_clinical_words(tokenizer: PreTrainedTokenizerFast, spellings: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer in which each spelling is one token; ids of the base stay as they are."""
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    taken = set(vocabulary) | {token["content"] for token in state["added_tokens"]}
    next_id = max(*vocabulary.values(), *(token["id"] for token in state["added_tokens"])) + 1
    for spelling in spellings:
        if spelling not in taken:
            vocabulary[spelling] = next_id
            taken.add(spelling)
            next_id += 1
    state["model"]["ignore_merges"] = True
    for token in state["added_tokens"]:
        # "took [MASK] daily": the mask takes the space before it, as in training, where the space belongs to the masked token.
        # Wrapping can't set this: transformers leaves an added token that is there as it is.
        if token["content"] == SPECIAL_TOKENS["mask"]:
            token["lstrip"] = True
    return _wrap(Tokenizer.from_str(json.dumps(state)))


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=SPECIAL_TOKENS["unk"],
        cls_token=SPECIAL_TOKENS["cls"],
        sep_token=SPECIAL_TOKENS["sep"],
        pad_token=SPECIAL_TOKENS["pad"],
        mask_token=SPECIAL_TOKENS["mask"],
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def padded_vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the rows of the embedding matrix: the highest id + 1, up to a multiple of 64."""
    highest = max(tokenizer.get_vocab().values())
    return -(-(highest + 1) // _VOCABULARY_MULTIPLE) * _VOCABULARY_MULTIPLE


def special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Return ids by role: unk, cls, sep, pad, mask."""
    return {name: int(getattr(tokenizer, f"{name}_token_id")) for name in SPECIAL_TOKENS}


def encode_with_offsets(
    tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Yield (ids, character offsets) for each text, without [CLS] and [SEP], in the tokenizers library's own threads."""
    for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False):
        yield encoding.ids, encoding.offsets


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, *, max_tokens: int | None = None) -> None:
    """Write tokenizer.json and its config for transformers 4 and 5; ``max_tokens`` is where ``truncation=True`` cuts."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == _CLASS_OF_TRANSFORMERS_5:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if max_tokens is not None:
        config["model_max_length"] = max_tokens
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a corpus or a model; raises ``ModelError`` unless it is a fast one with CLS and SEP tokens.

    Fast means that it gives character offsets (tokenizer.json). A folder without the files of a tokenizer is refused, because
    transformers makes an empty one of it that knows no word; so is one with far fewer tokens than the model beside it.
    """
    options = tokenizer_options(Path(folder))
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load a tokenizer from {folder}: {str(error).splitlines()[0]}") from None
    if not tokenizer.is_fast or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise ModelError(f"{folder} needs a fast tokenizer (tokenizer.json) with CLS and SEP tokens")
    config = Path(folder) / "config.json"
    size = json.loads(config.read_text(encoding="utf-8")).get("vocab_size") if config.is_file() else None
    if isinstance(size, int) and 2 * len(tokenizer) < size:
        raise ModelError(
            f"the tokenizer of {folder} has {len(tokenizer)} tokens, its model {size}: they do not belong together"
        )
    # transformers warns once of indexing errors at a text longer than the model's limit; callers cut, divide or refuse it.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def tokenizer_options(folder: Path) -> dict[str, bool]:
    """Return how the tokenizer of a folder is loaded; ``ModelError`` if the folder has no files of one.

    A bare ``vocab.txt`` does not say whether texts are lower-cased, and transformers then does it. A vocabulary whose words have
    capitals is of a cased model (BioBERT, BioClinicalBERT).
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{folder} has no tokenizer (tokenizer.json or a vocabulary): save it next to the model "
            "(AutoTokenizer.from_pretrained(<hub id>).save_pretrained(<folder>))"
        )
    stated = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    vocabulary = folder / "vocab.txt"
    if stated or not vocabulary.is_file():
        return {}
    words = [line for line in vocabulary.read_text(encoding="utf-8").splitlines() if line.isalpha()]
    return {"do_lower_case": not any(word != word.lower() for word in words)}
