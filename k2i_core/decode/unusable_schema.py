"""The one way in which a writer's schema is refused, in whatever language it is written."""


class UnusableSchemaError(Exception):
    """A schema is broken, or says what no row can hold; never leaves the decoder.

    The message is for people and says nothing of a record.
    """
