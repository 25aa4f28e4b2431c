"""The tiny encoders on disk."""

from tests.encoders import encoder_folders  # noqa: F401  # a fixture
