# k2i and Dagster in one image: code server, webserver and daemon differ in their command only.
FROM python:3.12.12-slim-bookworm

# tini with -g hands a stop to the whole process group, so that the workers, which are the code
# server's children, make their last flush; the code server alone would wait for them for ever.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/k2i k2i

WORKDIR /opt/k2i
COPY pyproject.toml requirements.lock README.md LICENSE dagster.yaml ./
COPY k2i_core k2i_core
COPY k2i_dagster k2i_dagster
# The locked versions of what k2i needs to run, and none of what its tests need. pip takes no
# hashes and no extras in a list of constraints.
RUN sed -E '/^ *(#|--hash)/d; s/ *\\$//; s/\[[^]]*\]//' requirements.lock > constraints.txt \
    && pip install --no-cache-dir --constraint constraints.txt ".[postgres]"

COPY deploy/dagster-postgres.yaml /etc/k2i/dagster/dagster.yaml
COPY deploy/workspace.yaml /etc/k2i/workspace.yaml
# Dagster writes beside its settings.
RUN mkdir -p /var/lib/k2i/state && chown -R k2i /etc/k2i/dagster /var/lib/k2i
ENV DAGSTER_HOME=/etc/k2i/dagster \
    DAGSTER_DISABLE_TELEMETRY=1 \
    K2I_PIPELINES=/etc/k2i/pipelines \
    PYTHONUNBUFFERED=1
USER k2i
WORKDIR /var/lib/k2i
ENTRYPOINT ["tini", "-g", "--"]
CMD ["k2i", "--help"]
