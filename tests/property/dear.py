"""Half as many examples as the profile says, for properties of which each makes several decoders.

@dear
@given(...)
"""

from hypothesis import settings

dear = settings(max_examples=settings().max_examples // 2)
