# Linted; not built where no container engine is at hand.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/chatproxy \
 && /opt/chatproxy/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/runtime.txt
COPY pyproject.toml README.md ./
COPY src src
RUN /opt/chatproxy/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/chatproxy/bin/pip uninstall --yes hatchling editables

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="chatproxy" \
      org.opencontainers.image.description="Keeps chatbot conversations as long, and for what, each person has agreed to"
RUN groupadd --gid 10001 chatproxy \
 && useradd --uid 10001 --gid chatproxy --no-create-home --home-dir /var/lib/chatproxy --shell /usr/sbin/nologin chatproxy \
 && install --directory --owner=chatproxy --group=chatproxy --mode=0700 /var/lib/chatproxy /etc/chatproxy/keys
COPY --from=build /opt/chatproxy /opt/chatproxy
COPY config/choice /etc/chatproxy/choice
ENV PATH=/opt/chatproxy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CHATPROXY_LISTEN=0.0.0.0:8080 \
    CHATPROXY_ADMIN_LISTEN=127.0.0.1:8081 \
    CHATPROXY_DATA_DIR=/var/lib/chatproxy/data \
    CHATPROXY_KEYSET=file:/etc/chatproxy/keys/keyset \
    CHATPROXY_CHOICE_NOTICES=/etc/chatproxy/choice
USER 10001:10001
WORKDIR /var/lib/chatproxy
# The root file system may be read-only: chatproxy writes only here. The keyset is mounted apart from the data.
VOLUME ["/var/lib/chatproxy", "/etc/chatproxy/keys"]
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/healthz', timeout=2)"]
ENTRYPOINT ["chatproxy"]
CMD ["serve"]
