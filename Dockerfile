# syntax=docker/dockerfile:1

# Two stages: the first builds, the second holds the program, what it is linked with, its example configuration, and nothing else:
# no shell, no package manager.
FROM rust:1.95.0-slim-trixie AS build
WORKDIR /build
COPY . .
ARG GATEWAY_COMMIT=unknown
# The caches keep a second build short. The program is copied out, as a cache is no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    GATEWAY_COMMIT=$GATEWAY_COMMIT cargo build --locked --profile dist --bin gateway \
    && deploy/image/assemble target/dist/gateway /image

FROM scratch
ARG GATEWAY_COMMIT=unknown
LABEL org.opencontainers.image.title="gateway" \
    org.opencontainers.image.description="Instant-messaging access gateway" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.revision="$GATEWAY_COMMIT" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /image /
ENV PATH=/usr/local/bin
# Paths in the configuration, and the defaults of every command, are relative to this.
WORKDIR /srv/gateway
USER 10001:10001
# QUIC and plain TCP, TLS, WebSocket without and with TLS, and the monitor, which is not for clients.
EXPOSE 8000/udp 8000/tcp 8443/tcp 8002/tcp 8444/tcp 8001/tcp
# Which configuration, for `serve` as for the health check: set this, and not --config, to use another one.
ENV GATEWAY_CONFIG=config/compose.toml
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["gateway", "health"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
