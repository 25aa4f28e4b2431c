"""Clinical ModernBERT: corpus, pretraining, evaluation, serving and exploration of clinical encoders on Ray."""

__version__ = "0.1.0"
