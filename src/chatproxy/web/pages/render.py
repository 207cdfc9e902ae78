"""How does a page become an answer? A template, the words of one language, and the headers that every page has."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from chatproxy.web.pages.headers import PAGE_HEADERS
from chatproxy.web.pages.words import Language, Words


class Templates:
    """The templates of the package. What they are given is escaped; a name that they are not given is an error."""

    def __init__(self, words: Mapping[Language, Words], *, base: str) -> None:
        """``base``: where the pages are, with a slash at the end."""
        self._environment = Environment(
            loader=PackageLoader("chatproxy.web.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(base=base, languages=list(words.values()))

    def render(self, name: str, words: Words, *, status: int = 200, **context: Any) -> Response:
        """Answer with the template *name* in the language of *words*."""
        text = self._environment.get_template(name).render(
            context,
            words=words,
            say=words.say,
            count=words.count,
            day=words.day,
            moment=words.moment,
        )
        return Response(text, status_code=status, media_type="text/html", headers=dict(PAGE_HEADERS))
