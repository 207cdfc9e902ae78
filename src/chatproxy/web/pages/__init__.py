"""The pages on which a person sees what is kept of them, and chooses. They work without a script."""

from collections.abc import Callable, Mapping

from starlette.routing import Route

from chatproxy.consent.notices import Terms
from chatproxy.web.pages.assets import asset_routes
from chatproxy.web.pages.choice import ChoicePage
from chatproxy.web.pages.conversations import ConversationPages
from chatproxy.web.pages.copy import CopyPage, Download
from chatproxy.web.pages.history import HistoryPages
from chatproxy.web.pages.render import Templates
from chatproxy.web.pages.uses import UsesPage
from chatproxy.web.pages.visit import Frame
from chatproxy.web.pages.words import Language, Words
from chatproxy.web.person_session import PREFIX, PersonSessions
from chatproxy.workflows.person import PersonDesk


class PersonPages:
    """Every page, and the answers to links that do not count, or not yet."""

    def __init__(
        self,
        desk: PersonDesk,
        terms: Terms,
        sessions: PersonSessions,
        *,
        public_keys: Callable[[], str],
        download: Download,
        words: Mapping[Language, Words],
    ) -> None:
        """``public_keys``: those that verify receipts, as a JWK Set; raises StoreUnavailableError before they are known."""
        frame = Frame(Templates(words, base=PREFIX), words, sessions)
        self.refused_link = frame.who
        self.untold_link = frame.unavailable
        self.busy = frame.busy
        self.routes: list[Route] = [
            *asset_routes(PREFIX),
            *ChoicePage(desk, terms, frame).routes(),
            *ConversationPages(desk, frame).routes(),
            *HistoryPages(desk, frame, public_keys=public_keys).routes(),
            *UsesPage(desk, frame).routes(),
            *CopyPage(download, frame).routes(),
        ]
