"""Text of a .proto file → descriptors, by Google's own compiler.

In a process of its own, because the compiler writes to the standard streams of whichever process
it runs in, and ends it when it meets a bug. Once for each schema.
"""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.schema.registered import WriterSchema

COMPILE_SECONDS_MAX = 60.0
"""Larger: a compiler that hangs is noticed later; smaller: a busy machine is not given its time."""

FILE_NAME = "k2i_writer_schema.proto"

REASON_CHARACTERS_MAX = 300

PROVIDED_IMPORTS = {
    "confluent/meta.proto": """\
syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta {
  string doc = 1;
  map<string, string> params = 2;
  repeated string tags = 3;
}
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
"""
}
"""Imports that clients of a registry bring along, so that it lists them nowhere.

Source:
    `confluent/meta.proto` of Confluent Schema Registry.
"""


def check_compiler() -> None:
    """Refuse the format where its optional package is missing.

    Raises:
        ConfigError: Install it.

    """
    if find_spec("grpc_tools") is None:
        message = "format protobuf needs the package grpcio-tools: pip install 'k2i[protobuf]'"
        raise ConfigError(message)


def compile_proto(schema: WriterSchema, imports: Path | None = None) -> bytes:
    """Return a serialized `FileDescriptorSet` in which the schema's file is `FILE_NAME`.

    Args:
        schema: With its references, by import path.
        imports: Directory for further imports.

    Raises:
        UnusableSchemaError: The text is no schema, or imports what is not there.
        UnavailableError: The compiler did not end in time.

    """
    with tempfile.TemporaryDirectory(prefix="k2i-proto-") as temporary:
        directory = Path(temporary)
        for name, text in PROVIDED_IMPORTS.items():
            if imports is None or not (imports / name).exists():
                _write(directory, name, text)
        for reference in schema.references:
            path = PurePosixPath(reference.name)
            if path.is_absolute() or ".." in path.parts or "\\" in reference.name:
                message = "the schema imports a path outside of its own directory"
                raise UnusableSchemaError(message)
            _write(directory, reference.name, reference.text)
        (directory / FILE_NAME).write_text(schema.text, encoding="utf-8")
        output = directory / "descriptors"
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{directory}",
            *([f"-I{imports}"] if imports is not None else []),
            "--include_imports",
            f"--descriptor_set_out={output}",
            FILE_NAME,
        ]
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter, no shell
                command, capture_output=True, check=False, timeout=COMPILE_SECONDS_MAX, text=True
            )
        except subprocess.TimeoutExpired as error:
            message = f"the compiler of a schema did not end in seconds={COMPILE_SECONDS_MAX:.0f}"
            raise UnavailableError(message) from error
        if done.returncode != 0:
            reason = " ".join(done.stderr.split())[:REASON_CHARACTERS_MAX]
            message = f"the schema does not compile: {reason}"
            raise UnusableSchemaError(message)
        return output.read_bytes()


def _write(directory: Path, name: str, text: str) -> None:
    target = directory / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
