"""LangChain's ChatOpenAI."""

import langchain_chat
from langchain_openai import ChatOpenAI

langchain_chat.run("langchain-openai", ChatOpenAI(model="demo", max_tokens=24))
