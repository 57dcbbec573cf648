"""The one way in which a writer's schema is refused, in whatever language it is written."""

from k2i_core.decode.json_trees import ErrorClass


class UnusableSchemaError(Exception):
    """A schema is broken, or says what no row can hold; becomes a fault of its records.

    The message is for people and says nothing of a record.

    Attributes:
        error_class: Of the records that were written with it.
    """

    def __init__(self, message: str, error_class: ErrorClass = ErrorClass.UNUSABLE_SCHEMA) -> None:
        super().__init__(message)
        self.error_class = error_class
