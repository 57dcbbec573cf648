"""Writers' schemas from a registry that speaks Confluent's REST interface.

`client` asks one question at a time, within limits; `schemas` remembers the answers and knows what
to do about those that fail: no answer is waited for and is nobody's fault but the registry's
(`UnavailableError`); a schema that the registry does not have is the record's fault.
"""
