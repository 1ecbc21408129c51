# Trains and evaluates agents without a display, and writes to /workspace/runs:
#   docker build -t mbrl-bilevel .
#   mkdir -p runs
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/runs:/workspace/runs" \
#     mbrl-bilevel train pets_pendulum
#   docker run --rm -v "$PWD/runs:/workspace/runs" -p 6006:6006 --entrypoint tensorboard \
#     mbrl-bilevel --logdir runs --bind_all
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim
FROM ${BASE_IMAGE}

# MuJoCo renders through EGL, which needs libgl1 too, with Mesa's software driver; OSMesa is there
# for MUJOCO_GL=osmesa.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates libegl1 libgl1 libosmesa6 python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --uid 1000 --create-home mbrl \
    && install -d -o mbrl -g mbrl /workspace /workspace/runs

RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# The dependencies lie in a layer of their own, which a change of the sources leaves as it is.
WORKDIR /opt/mbrl-bilevel
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > /tmp/requirements.txt \
    && pip install --no-cache-dir -c constraints.txt -r /tmp/requirements.txt \
    && rm /tmp/requirements.txt

COPY README.md LICENSE ./
COPY mbrl_bilevel mbrl_bilevel
COPY envs envs
COPY agents agents
COPY configs configs
RUN pip install --no-cache-dir --no-deps .

# There is no display. MPLCONFIGDIR is a folder that any user can write, for `docker run --user`.
ENV MUJOCO_GL=egl \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 \
    SDL_VIDEODRIVER=dummy

USER mbrl
WORKDIR /workspace
VOLUME /workspace/runs
EXPOSE 6006
ENTRYPOINT ["mbrl-bilevel"]
CMD ["--help"]
