package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// call sends a signed request of S3 Vectors. The response is decoded into answer unless that is nil.
func (e *Endpoint) call(ctx context.Context, op string, document []byte, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL+"/"+op, bytes.NewReader(document))
	if err != nil {
		return err
	}
	digest := sha256.Sum256(document)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(digest[:]))
	resp, err := e.HTTP.Do(signer.SignV4WithServiceType(*r, e.AccessKey, e.SecretKey, "", e.Region, "s3vectors"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return &statusError{op, resp.Header.Get("X-Amzn-Errortype"), resp.StatusCode}
	case err != nil:
		return err
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("%w: %s: %w", errWrong, op, err)
	}
	return nil
}

// named calls an operation on a vector bucket, or on an index of it, with further members. A response
// with the status that is accepted is not an error.
func (e *Endpoint) named(ctx context.Context, op, bucket, index string, accepted int, more map[string]any) error {
	members := map[string]any{"vectorBucketName": bucket}
	if index != "" {
		members["indexName"] = index
	}
	for name, value := range more {
		members[name] = value
	}
	document, err := json.Marshal(members)
	if err != nil {
		return err
	}
	err = e.call(ctx, op, document, nil)
	if status := new(statusError); errors.As(err, &status) && status.status == accepted {
		return nil
	}
	return err
}

// keyed is a vector with its key.
type keyed struct {
	key  string
	data []float32
}

// putVectors stores vectors.
func (e *Endpoint) putVectors(ctx context.Context, bucket, index string, all ...keyed) error {
	b := fmt.Appendf(nil, `{"vectorBucketName":%q,"indexName":%q,"vectors":[`, bucket, index)
	for i, v := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"key":%q,"data":{"float32":`, v.key)
		b = append(appendFloats(b, v.data), "}}"...)
	}
	return e.call(ctx, "PutVectors", append(b, "]}"...), nil)
}

// storeVectors is putVectors that tries again for a minute while the service is busy.
func (e *Endpoint) storeVectors(ctx context.Context, bucket, index string, all []keyed) error {
	for end := time.Now().Add(time.Minute); ; {
		err := e.putVectors(ctx, bucket, index, all...)
		var status *statusError
		if !errors.As(err, &status) || status.status != http.StatusTooManyRequests && status.status != http.StatusServiceUnavailable || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// hit is a vector that a search found.
type hit struct {
	Key      string  `json:"key"`
	Distance float64 `json:"distance"`
}

// queryVectors searches for the k vectors that are nearest to one.
func (e *Endpoint) queryVectors(ctx context.Context, bucket, index string, k int, sought []float32) ([]hit, error) {
	b := fmt.Appendf(nil, `{"vectorBucketName":%q,"indexName":%q,"topK":%d,"returnDistance":true,"queryVector":{"float32":`, bucket, index, k)
	var answer struct {
		Vectors []hit `json:"vectors"`
	}
	err := e.call(ctx, "QueryVectors", append(appendFloats(b, sought), "}}"...), &answer)
	return answer.Vectors, err
}

// appendFloats appends the shortest JSON numbers that are read as the same values.
func appendFloats(b []byte, all []float32) []byte {
	b = append(b, '[')
	for i, f := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
	}
	return append(b, ']')
}
