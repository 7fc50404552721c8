# hopbench as an image: what was locked, built from source, run by a user without rights.
#
#   docker build --build-arg HOPBENCH_COMMIT="$(git rev-parse HEAD)" --tag hopbench .
#   docker run --rm --ulimit nofile=20000 --volume "$PWD/results:/work/results" \
#     --user "$(id -u):$(id -g)" hopbench run
#
# Both stages have Debian 12's C library: memory is measured in it, and figures are comparable with those of
# a build by hand only where it is the same.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
# The folder .git is not here to tell it.
ARG HOPBENCH_COMMIT=""
RUN cargo build --release --locked --package hopbench-harness \
  && install -D --strip target/release/hopbench /image/hopbench \
  && mkdir /image/work

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/hopbench /usr/local/bin/hopbench
COPY --from=build --chown=65532:65532 /image/work /work
WORKDIR /work
# nonroot
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/hopbench"]
CMD ["--help"]
