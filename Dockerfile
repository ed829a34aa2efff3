# bitcert as a program: docker build -t bitcert . && docker run --rm -v "$PWD:/work" bitcert certify --data digits --budget 60
FROM python:3.13-slim
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt '/src[tables,onnx,hub]' && rm -rf /src
WORKDIR /work
ENTRYPOINT ["bitcert"]
