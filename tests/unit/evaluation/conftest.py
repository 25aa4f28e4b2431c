"""The tiny encoders on disk, and tiny evaluation sets."""

from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture
from tests.helpers.runs import task_files  # noqa: F401  # a fixture
