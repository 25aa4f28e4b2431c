"""Masking a batch of rows: ours, token-aware by whole terms, against transformers' collator, which draws tokens independently.

The check covers what both must give: the masked share near the rate, 80 % [MASK], no special token; ours also the same in every
split of the batch. Ours does more (terms, odds, a stream of random numbers for each row), the unit is the same: tokens.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from clinical_modernbert.masking import Masker, token_ranges
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import MaskingSection
from clinical_modernbert.tokenizer import build_tokenizer, special_ids
from transformers import DataCollatorForLanguageModeling

from benchmarks.harness import Row

NUM_ROWS, ROW_LENGTH, STEPS, RATE = 704, 128, 10, 0.3


def build(scratch: Path) -> Row:
    """Return the row on rows of random ordinary ids with a fifth of clinical terms."""
    texts = [f"warfarin {n} mg daily was held before the procedure number {n * 7919}" for n in range(2000)]
    tokenizer = build_tokenizer(TokenizerSection(base="train", vocabulary_size=2048), texts, clinical_words=set())
    tokens, roles = token_ranges(tokenizer), special_ids(tokenizer)
    rng = np.random.default_rng(0)
    ids_RL = rng.choice(tokens.ordinary_ids, (NUM_ROWS, ROW_LENGTH))
    ids_RL[:, 0], ids_RL[:, -1] = roles["cls"], roles["sep"]
    salient_RL = np.repeat(rng.random((NUM_ROWS, ROW_LENGTH // 2)) < 0.2, 2, axis=1)
    valid_RL = np.ones_like(salient_RL)
    masker = Masker(
        MaskingSection(rate_start=RATE, rate_end=RATE),
        tokens,
        num_steps=100,
        seed=0,
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATE)
    rows_R = np.arange(NUM_ROWS)
    tensor_RL, special_RL = torch.from_numpy(ids_RL), torch.from_numpy(np.isin(ids_RL, tokens.special_ids))

    def mask(step: int) -> tuple[Any, Any]:
        return masker.mask(ids_RL, salient_RL=salient_RL, valid_RL=valid_RL, rows_R=rows_R, step=step)

    def theirs() -> tuple[Any, Any]:
        return collator.torch_mask_tokens(tensor_RL.clone(), special_tokens_mask=special_RL)

    def check() -> dict[str, Any]:
        ids, selected = mask(0)
        inputs, labels = theirs()
        found = {}
        for name, changed, chosen in (("ours", ids, selected), ("peer", inputs.numpy(), (labels != -100).numpy())):
            share = chosen.sum() / (~special_RL).sum().item()
            masked = (changed[chosen] == roles["mask"]).mean()
            if abs(share - RATE) > 0.01 or abs(masked - 0.8) > 0.02 or (chosen & special_RL.numpy()).any():
                raise AssertionError(f"{name}: {share} of the tokens chosen, {masked} of those [MASK]")
            found[name] = {"share": float(share), "mask_share": float(masked)}
        part = masker.mask(ids_RL[5:9], salient_RL=salient_RL[5:9], valid_RL=valid_RL[5:9], rows_R=rows_R[5:9], step=0)
        np.testing.assert_array_equal(part[0], ids[5:9])
        return found

    def run(one: Any) -> int:
        for step in range(STEPS):
            one(step)
        return STEPS * ids_RL.size

    return Row(
        name="masking",
        unit="tokens",
        peer=f"transformers {transformers.__version__} DataCollatorForLanguageModeling",
        check=check,
        ours=lambda: run(mask),
        other=lambda: run(lambda step: theirs()),
        target="less than 5 % of a training step",
    )
