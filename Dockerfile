# syntax=docker/dockerfile:1
# MRD Lens on a CPU. See docs/deploy.md: whoever reaches its port can read the forget sets.
FROM python:3.11.15-slim

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app

# The build of torch without CUDA: a tenth of the size. It is the largest layer, and the one that changes least.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt requirements-postgres.txt ./
RUN pip install -i "$TORCH_INDEX" "$(grep '^torch==' requirements.txt)"
RUN pip install -r requirements.txt -r requirements-postgres.txt

COPY pyproject.toml README.md LICENSE app.py ./
COPY .streamlit .streamlit
COPY analysis analysis
COPY cli cli
COPY mrd_core mrd_core
COPY pages pages
RUN pip install --no-deps -e . && python -m compileall -q analysis cli mrd_core pages

# 1000 is who Hugging Face Spaces runs as. Its own are the runs, and nothing of the program.
RUN useradd --create-home --uid 1000 mrd && install --directory --owner mrd --mode 0700 /data
USER 1000
VOLUME /data
# Runs, the store and what is fetched from the hub lie on the volume, and paths typed in the browser end there. All
# addresses of the container are listened on, since its port is what is published; the names it answers to stay few.
ENV MRD_HOME=/data/mrd-lens \
    MRD_ALLOWED_ROOTS=/data \
    HF_HOME=/data/huggingface \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_ALLOWED_HOSTS="127.0.0.1 localhost" \
    STREAMLIT_SERVER_HEADLESS=true
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["mrd-lens", "app"]
