"""LangChain's ChatAnthropic."""

import langchain_chat
from langchain_anthropic import ChatAnthropic

langchain_chat.run("langchain-anthropic", ChatAnthropic(model="demo", max_tokens=24))
