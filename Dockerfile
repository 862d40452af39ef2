# One image for all of Leads: the command says which room it is (`services.api`, `services.storage`, `services.notifier`)
# or what is to be done (`services.cli ...`; `leads` in a shell). Classic syntax: it builds with and without BuildKit.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /opt/leads
COPY requirements/runtime.txt /tmp/
# Wheels only, each checked against its hash: nothing is compiled, so no compiler is needed, here or later, nor the sources
# that some of them bring.
RUN python -m venv --without-pip .venv \
 && python -m pip --python .venv/bin/python install --no-cache-dir --disable-pip-version-check --no-input \
    --only-binary :all: --require-hashes --requirement /tmp/runtime.txt \
 && find .venv \( -name '*.c' -o -name '*.pyx' \) -delete
COPY leads leads
COPY shared shared
COPY services services
# A clone whose files are for its owner alone must give an image that its user can read.
RUN .venv/bin/python -m compileall -q shared services && chmod -R a+rX /opt/leads

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Leads" \
      org.opencontainers.image.description="Lead intake that never loses a lead." \
      org.opencontainers.image.licenses="MIT"
# A new volume takes its owner from the folder that it is mounted on: all that may be one belong to `leads`.
RUN useradd --system --uid 10001 --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin leads \
 && mkdir -p /data/mailbox /volumes/api /volumes/storage /volumes/notifier /volumes/mailbox /volumes/ops \
    /volumes/rabbitmq /volumes/grafana \
 && chown -R leads:leads /data /volumes \
 && chmod -R 0700 /data /volumes/api /volumes/storage /volumes/notifier /volumes/mailbox /volumes/ops
COPY --from=build /opt/leads /opt/leads
ENV PATH=/opt/leads/.venv/bin:/opt/leads:$PATH \
    PYTHONPATH=/opt/leads \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LEADS_DATA_DIR=/data
WORKDIR /data
USER leads
ENTRYPOINT ["python", "-m"]
CMD ["services.cli", "--help"]
