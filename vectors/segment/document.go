package segment

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A document is JSON whose first line has the SHA-256 of all bytes after that line:
//
//	{"sha256":"64 hexadecimal digits",
//	"kind":"manifest","version":1,...}
//
// The digest is of bytes, so that a changed space is detected as well.

const (
	sealBegin = `{"sha256":"`
	sealEnd   = "\",\n"
	sealBytes = len(sealBegin) + 2*sha256.Size + len(sealEnd)
)

// MaxDocument is the size of the largest document that is read or written, in bytes.
const MaxDocument = 256 << 20

// kindVersion begins each document.
type kindVersion struct {
	Kind    string `json:"kind"`
	Version int    `json:"version"`
}

// seal returns body, a struct that embeds kindVersion, as a document.
func seal(body any) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, sealBytes-1)) // the rest begins where the brace of the JSON is
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		return nil, err
	}
	document := b.Bytes()
	if len(document) > MaxDocument {
		return nil, fmt.Errorf("%w: it has %d bytes, more than %d", ErrRow, len(document), MaxDocument)
	}
	sum := sha256.Sum256(document[sealBytes:])
	copy(document, sealBegin+hex.EncodeToString(sum[:])+sealEnd)
	return document, nil
}

// unseal checks the digest, kind and version of a document, and decodes it into body. The caller
// checks that the content makes sense.
func unseal(document []byte, kind string, body any) error {
	if len(document) < sealBytes || len(document) > MaxDocument {
		return fmt.Errorf("%w: it has %d bytes", ErrCorrupt, len(document))
	}
	sum := sha256.Sum256(document[sealBytes:])
	if string(document[:sealBytes]) != sealBegin+hex.EncodeToString(sum[:])+sealEnd {
		return fmt.Errorf("%w: its SHA-256 is %x, and its first line does not say so", ErrCorrupt, sum)
	}
	var is kindVersion
	if err := json.Unmarshal(document, &is); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if is.Kind != kind {
		return fmt.Errorf("%w: it is a %q instead of a %q", ErrFormat, is.Kind, kind)
	}
	if is.Version != Version {
		return fmt.Errorf("%w: it has version %d, this version of akigw reads version %d", ErrFormat, is.Version, Version)
	}
	rest := append([]byte{'{'}, document[sealBytes:]...)
	d := json.NewDecoder(bytes.NewReader(rest))
	d.DisallowUnknownFields()
	if err := d.Decode(body); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the JSON", ErrFormat)
	}
	return nil
}

// named adds the kind of a document to an error.
func named(kind string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", kind, err)
}
