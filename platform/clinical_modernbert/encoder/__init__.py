"""Models: build, load and run them, attention over packed rows, masked scoring, and vectors of texts."""

from clinical_modernbert.encoder.attention import PACKED_SDPA, use_attention
from clinical_modernbert.encoder.bfloat16 import choose_precision, to_bfloat16
from clinical_modernbert.encoder.cross_entropy import decoded_cross_entropy
from clinical_modernbert.encoder.embed import Agreement, Encoder, embed_ids
from clinical_modernbert.encoder.export import save_model
from clinical_modernbert.encoder.linear import pack, train_by_fastest
from clinical_modernbert.encoder.load import (
    default_device,
    load_encoder,
    load_export,
    load_model,
    load_with_new_head,
    pooling_of,
)
from clinical_modernbert.encoder.model import (
    build_model,
    check_rope_theta,
    compile_feed_forward,
    extend_vocabulary,
    global_rope_theta,
    keep_freed_memory,
    num_parameters,
    set_global_rope_theta,
)
from clinical_modernbert.encoder.packed import (
    MaskedScores,
    PackedBatch,
    encode_first,
    encode_packed,
    masked_loss_sum,
    score_masked,
)
from clinical_modernbert.encoder.precision import has_bfloat16, products_in
from clinical_modernbert.encoder.segments import SegmentLayout
from clinical_modernbert.encoder.varlen import FLASH_VARLEN, TORCH_VARLEN
from clinical_modernbert.recipe.vocabulary import Precision

__all__ = [
    "FLASH_VARLEN",
    "PACKED_SDPA",
    "TORCH_VARLEN",
    "Agreement",
    "Encoder",
    "MaskedScores",
    "PackedBatch",
    "Precision",
    "SegmentLayout",
    "build_model",
    "check_rope_theta",
    "choose_precision",
    "compile_feed_forward",
    "decoded_cross_entropy",
    "default_device",
    "embed_ids",
    "encode_first",
    "encode_packed",
    "extend_vocabulary",
    "global_rope_theta",
    "has_bfloat16",
    "keep_freed_memory",
    "load_encoder",
    "load_export",
    "load_model",
    "load_with_new_head",
    "masked_loss_sum",
    "num_parameters",
    "pack",
    "pooling_of",
    "products_in",
    "save_model",
    "score_masked",
    "set_global_rope_theta",
    "to_bfloat16",
    "train_by_fastest",
    "use_attention",
]
