"""Open a store by its address."""

from pathlib import Path

from clinical_modernbert.artifacts.file_store import FileStore
from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.errors import StoreError


def open_store(root: str) -> Store:
    """Open ``file:///folder``, a plain folder path, or ``s3://bucket/prefix``.

    S3 reads ``S3_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_REGION`` from the environment.
    """
    # Not urlsplit: '#' and '?' are ordinary characters in the name of a folder.
    scheme, separator, location = root.partition("://")
    if scheme == "s3" and separator:
        # Imported here, so that a store in a folder never loads the S3 client.
        from clinical_modernbert.artifacts.s3_store import S3Store

        bucket, _, prefix = location.partition("/")
        return S3Store.from_environment(bucket=bucket, prefix=join_key(prefix))
    if scheme == "file" or not separator:
        # file://relative/path is not a valid URL, but users write it for a relative folder.
        return FileStore(Path(location if separator else root))
    raise StoreError(f"artifact root {root!r}: the scheme must be file:// or s3://, not {scheme}://")
