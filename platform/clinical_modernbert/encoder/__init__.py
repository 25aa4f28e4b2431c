"""The encoder: building and loading ModernBERT, attention over packed rows, masked scoring, embeddings."""

from clinical_modernbert.encoder.attention import PACKED_SDPA, SegmentLayout
from clinical_modernbert.encoder.embed import Encoder, Pooling, load_encoder
from clinical_modernbert.encoder.model import build_model, load_model, num_parameters
from clinical_modernbert.encoder.packed import MaskedScores, PackedBatch, encode_packed, masked_loss_sum, score_masked
from clinical_modernbert.encoder.vocabulary import extend_vocabulary

__all__ = [
    "PACKED_SDPA",
    "Encoder",
    "MaskedScores",
    "PackedBatch",
    "Pooling",
    "SegmentLayout",
    "build_model",
    "encode_packed",
    "extend_vocabulary",
    "load_encoder",
    "load_model",
    "masked_loss_sum",
    "num_parameters",
    "score_masked",
]
