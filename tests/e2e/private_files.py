"""The search for private values in every file that a pipeline wrote.

Every value that is to be protected has one word plain in it, some that may be written have another
one, so that a search that finds nothing says something.
"""

from pathlib import Path

import fastavro

from tests.e2e.pipelines import PipelineOnDisk, ended

PLAIN, SEEN = b"plain", b"marker"


def ingest_over_a_kill(pipeline: PipelineOnDisk, hot_file_count: int = 1) -> None:
    """Ingest by a worker that is killed while its rows are hot only, and by the one after it."""
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for(lambda: len(_hot_with(pipeline, SEEN)) >= hot_file_count)
    assert not _hot_with(pipeline, PLAIN)
    pipeline.change(flush={"max_age": "500ms"})
    pipeline.ingest_here()


def assert_nothing_private_is_in_files(pipeline: PipelineOnDisk) -> None:
    """Search all files below the pipeline's directory, byte by byte."""
    settings = pipeline.path.read_text()
    pipeline.path.unlink()  # The one file that may say it.
    assert _files_with(pipeline.directory, SEEN)
    assert not _files_with(pipeline.directory, PLAIN)
    pipeline.path.write_text(settings)


def _hot_with(pipeline: PipelineOnDisk, word: bytes) -> list[Path]:
    return _files_with(pipeline.directory / "hot", word)


def _files_with(directory: Path, word: bytes) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if word in path.read_bytes() or word in _unpacked(path)]


def _unpacked(path: Path) -> bytes:
    """Return what stands in a manifest; rows of Parquet files are read as tables."""
    if path.suffix != ".avro":
        return b""
    with path.open("rb") as file:
        return repr(list(fastavro.reader(file))).encode()
