"""Grow a checkpoint's vocabulary to a corpus's tokenizer: a new word starts as the mean of its former pieces."""

import torch
from transformers import ModernBertForMaskedLM, PreTrainedTokenizerFast

from clinical_modernbert.errors import ModelError
from clinical_modernbert.tokenizer import padded_vocabulary_size


@torch.no_grad()
def extend_vocabulary(
    model: ModernBertForMaskedLM, former: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast
) -> int:
    """Give every id that ``tokenizer`` adds to ``former`` a row of its own, and return how many were added.

    Ids that both have must mean the same: a checkpoint read through another tokenizer would train on noise without a word.
    """
    known, wanted = former.get_vocab(), tokenizer.get_vocab()
    moved = [token for token, number in known.items() if wanted.get(token) != number]
    if moved:
        raise ModelError(
            f"the corpus's tokenizer is not an extension of the checkpoint's: {len(moved)} of {len(known)} tokens have another "
            "id or none; build the corpus with tokenizer.base set to the checkpoint"
        )
    size = padded_vocabulary_size(tokenizer)
    if size > model.config.vocab_size:
        model.resize_token_embeddings(size, mean_resizing=False)
    embeddings, bias = model.get_input_embeddings().weight, model.decoder.bias
    added = sorted((number, token) for token, number in wanted.items() if token not in known)
    for number, token in added:
        text = tokenizer.convert_tokens_to_string([token])
        pieces = former(text, add_special_tokens=False)["input_ids"]
        embeddings[number] = embeddings[pieces].mean(0)
        bias[number] = bias[pieces].mean()
    return len(added)
