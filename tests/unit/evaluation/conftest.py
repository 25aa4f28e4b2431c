"""The tiny encoders on disk."""

from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture
