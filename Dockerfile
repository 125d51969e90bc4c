# The runtime: the service and the offline job, without torch, not root.
#     docker build -t dualtower .
#     docker run --rm -v releases:/data/releases -v "$PWD/examples:/titles:ro" dualtower index /titles/titles.tsv --publish
#     docker run --rm -v releases:/data/releases -p 127.0.0.1:8000:8000 dualtower

FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11-slim AS environment
RUN python -m venv /opt/dualtower
COPY --from=wheel /wheel /wheel
COPY constraints.txt /wheel/
# docker build --build-arg EXTRA=otel: with what sends traces to a collector.
ARG EXTRA=""
RUN /opt/dualtower/bin/pip install --no-cache-dir -c /wheel/constraints.txt "$(echo /wheel/*.whl)${EXTRA:+[$EXTRA]}"

FROM python:3.11-slim
# The directory belongs to the user so that a new volume mounted on it does, too.
RUN useradd --uid 10001 --create-home dualtower && install -d -o dualtower -g dualtower /data /data/releases
COPY --from=environment /opt/dualtower /opt/dualtower
ENV PATH=/opt/dualtower/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DUALTOWER_RELEASES=/data/releases \
    DUALTOWER_HOST=0.0.0.0 \
    DUALTOWER_PORT=8000
USER dualtower
WORKDIR /data
EXPOSE 8000
# Ready, not merely alive: a release and a bundle are open. urlopen raises, and so fails, on 503.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['DUALTOWER_PORT'] + '/health/ready', timeout=2)"]
ENTRYPOINT ["dualtower"]
CMD ["serve"]
