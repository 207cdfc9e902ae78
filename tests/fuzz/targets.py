"""Every target, by name."""

from fuzz import chats, codings, frames, http, people, stored, streams, written

TARGETS = (
    chats.TARGETS
    | streams.TARGETS
    | codings.TARGETS
    | frames.TARGETS
    | http.TARGETS
    | people.TARGETS
    | stored.TARGETS
    | written.TARGETS
)
