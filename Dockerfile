# A static binary in an empty image, as a user of its own.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /akigw ./cmd/akigw \
 && mkdir -m 0700 /data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /akigw /akigw
COPY --from=build --chown=65532:65532 --chmod=0700 /data /data
USER 65532:65532
VOLUME /data
EXPOSE 9000 9001
ENV AKIGW_DATA=/data
ENTRYPOINT ["/akigw"]
CMD ["serve"]
