// Package formdata reads multipart/form-data (RFC 7578) in the way that browser uploads to S3 ("POST
// Object") are made: some fields, then one file, and after it nothing of interest. The fields are held
// in memory within a bound, the file is streamed, and what follows the file is not parsed.
//
// mime/multipart is not used, because it reads ahead: a server that passes the file on has to know how
// long it is, which follows from the number of bytes in front of it.
package formdata

import (
	"bytes"
	"io"
	"mime"
	"strings"

	"github.com/akidb/akigw"
)

const (
	// ErrMalformed: the body is not well-formed multipart/form-data.
	ErrMalformed = akigw.Error("the body is not well-formed multipart/form-data")
	// ErrTooLarge: there are too many bytes in front of the file.
	ErrTooLarge = akigw.Error("the fields in front of the file are too large")
	// ErrNoFile: the form ended without a file.
	ErrNoFile = akigw.Error("the form has no file")
)

const (
	// MaxFields is the limit of the bytes in front of the file, names and boundaries included (S3: 20 KB).
	MaxFields = 20 << 10
	// maxBoundary is the longest boundary (RFC 2046 §5.1.1).
	maxBoundary = 70
	// bufferBytes is more than MaxFields, and than the delimiter of the longest boundary.
	bufferBytes = 32 << 10
	// closing is the length of what follows the last delimiter: "--" and a line end, which every client
	// sends although it may be left out.
	closing = 4
)

// Is reports whether a Content-Type is that of a form.
func Is(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(kind), "multipart/form-data")
}

// Field is a field of a form, as it was sent.
type Field struct {
	Name, Value string
}

// Reader reads a form. First call Fields, then Read, then Finish. It is for one goroutine.
type Reader struct {
	// Filename is the name of the file as the client gave it, "" for none; known after Fields.
	Filename string

	in         io.Reader
	left       int64  // bytes of the body that were not taken from the buffer
	taken      int    // bytes that were taken in front of the file
	delimiter  []byte // line end, "--", boundary
	buf        []byte
	start, end int  // of what is in buf
	ready      int  // bytes from start that belong to the current part
	over       bool // a delimiter follows them
}

// New returns a reader of a body of size bytes. It fails with ErrMalformed if the Content-Type has no
// usable boundary.
func New(body io.Reader, size int64, contentType string) (*Reader, error) {
	_, parameters, err := mime.ParseMediaType(contentType)
	boundary := parameters["boundary"]
	if err != nil || boundary == "" || len(boundary) > maxBoundary {
		return nil, ErrMalformed
	}
	r := &Reader{in: body, left: size + 2, taken: -2, delimiter: []byte("\r\n--" + boundary), buf: make([]byte, bufferBytes)}
	r.end = copy(r.buf, "\r\n") // so that the first delimiter is like the others
	return r, nil
}

// Fields reads up to the first byte of the file, and returns the fields in front of it. It fails with
// ErrMalformed, ErrTooLarge, ErrNoFile, or the error of the body.
func (r *Reader) Fields() (fields []Field, err error) {
	if _, err := r.value(); err != nil { // a preamble
		return nil, err
	}
	for {
		last, err := r.takeDelimiter()
		if err != nil {
			return nil, err
		}
		if last {
			return nil, ErrNoFile
		}
		name, filename, err := r.header()
		if err != nil {
			return nil, err
		}
		if strings.EqualFold(name, "file") {
			r.Filename = filename
			return fields, nil
		}
		value, err := r.value()
		if err != nil {
			return nil, err
		}
		fields = append(fields, Field{name, string(value)})
	}
}

// Rest is how many bytes of the body remain.
func (r *Reader) Rest() int64 { return r.left }

// Size is how many bytes of the file remain, if the file is the last part and nothing follows the
// closing line.
func (r *Reader) Size() int64 { return max(0, r.left-int64(len(r.delimiter))-closing) }

// Read reads the file. At its end it returns io.EOF; a body that ends within the file is ErrMalformed.
func (r *Reader) Read(p []byte) (int, error) {
	if err := r.scan(); err != nil {
		return 0, err
	}
	if r.ready == 0 {
		return 0, io.EOF
	}
	return copy(p, r.take(min(len(p), r.ready))), nil
}

// Finish reads what follows the file to the end of the body, and fails only if that fails.
func (r *Reader) Finish() error {
	r.take(r.end - r.start)
	n, err := io.Copy(io.Discard, r.in)
	r.left -= n
	return err
}

// take removes n bytes from the buffer. They are valid until more is read.
func (r *Reader) take(n int) []byte {
	b := r.buf[r.start : r.start+n]
	r.start += n
	r.left -= int64(n)
	r.taken += n
	r.ready = max(0, r.ready-n)
	return b
}

// fill reads more into the buffer, which must not be full of bytes that are ready.
func (r *Reader) fill() error {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	n, err := r.in.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == io.EOF {
		return ErrMalformed // a form ends with its closing delimiter
	}
	return err
}

// fillField is fill in front of the file.
func (r *Reader) fillField() error {
	if r.taken+r.end-r.start > MaxFields {
		return ErrTooLarge
	}
	return r.fill()
}

// scan makes bytes of the current part ready, or finds its end.
func (r *Reader) scan() error {
	for r.ready == 0 && !r.over {
		r.ready, r.over = r.content()
		if r.ready > 0 || r.over {
			return nil
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
	return nil
}

// content returns how many bytes of the buffer belong to the current part for certain, and whether a
// delimiter follows them.
func (r *Reader) content() (n int, over bool) {
	b := r.buf[r.start:r.end]
	for from := 0; ; from++ {
		i := bytes.Index(b[from:], r.delimiter)
		if i < 0 {
			return max(0, len(b)-len(r.delimiter)+1), false
		}
		from += i
		after := b[from+len(r.delimiter):]
		if len(after) < 2 {
			return from, false
		}
		if bytes.HasPrefix(after, []byte("--")) || bytes.HasPrefix(after, []byte("\r\n")) || after[0] == ' ' || after[0] == '\t' {
			return from, true
		}
	}
}

// value reads the rest of a part in front of the file.
func (r *Reader) value() ([]byte, error) {
	var value []byte
	for {
		if r.ready == 0 && !r.over {
			r.ready, r.over = r.content()
		}
		value = append(value, r.take(r.ready)...)
		if r.taken > MaxFields {
			return nil, ErrTooLarge
		}
		if r.over {
			return value, nil
		}
		if err := r.fillField(); err != nil {
			return nil, err
		}
	}
}

// takeDelimiter reads a delimiter to the end of its line, and reports whether it is the closing one.
func (r *Reader) takeDelimiter() (last bool, err error) {
	r.take(len(r.delimiter))
	r.over = false
	if bytes.HasPrefix(r.buf[r.start:r.end], []byte("--")) {
		return true, nil
	}
	padding, err := r.line()
	if err == nil && len(bytes.Trim(padding, " \t")) > 0 {
		err = ErrMalformed
	}
	return false, err
}

// header reads the header of a part, and returns the names in its Content-Disposition (RFC 7578 §4.2).
func (r *Reader) header() (name, filename string, err error) {
	found := false
	for {
		if end, err := r.blank(); err != nil {
			return "", "", err
		} else if end {
			break
		}
		line, err := r.line()
		if err != nil {
			return "", "", err
		}
		key, value, ok := strings.Cut(string(line), ":")
		if !ok || key == "" || key[0] == ' ' || key[0] == '\t' {
			return "", "", ErrMalformed
		}
		if !strings.EqualFold(key, "Content-Disposition") {
			continue // such as the Content-Type of the part, which S3 ignores
		}
		kind, parameters, err := mime.ParseMediaType(value)
		if err != nil || found || kind != "form-data" {
			return "", "", ErrMalformed
		}
		found, name, filename = true, parameters["name"], parameters["filename"]
	}
	if name == "" {
		return "", "", ErrMalformed
	}
	return name, filename, nil
}

// blank reads the empty line that ends the header of a part, and reports whether it is there. If it is also
// the beginning of a delimiter, the part is empty (RFC 2046 §5.1.1), and the line is left where it is.
func (r *Reader) blank() (bool, error) {
	for r.end-r.start < len(r.delimiter)+2 { // every part is followed by that much
		if err := r.fill(); err != nil {
			return false, err
		}
	}
	if !bytes.HasPrefix(r.buf[r.start:r.end], []byte("\r\n")) {
		return false, nil
	}
	if n, over := r.content(); n > 0 || !over {
		r.take(2)
	}
	if r.taken > MaxFields {
		return false, ErrTooLarge
	}
	return true, nil
}

// line reads a line in front of the file, and returns it without its end.
func (r *Reader) line() ([]byte, error) {
	for {
		if i := bytes.Index(r.buf[r.start:r.end], []byte("\r\n")); i >= 0 {
			if r.taken+i+2 > MaxFields {
				return nil, ErrTooLarge
			}
			return r.take(i + 2)[:i], nil
		}
		if err := r.fillField(); err != nil {
			return nil, err
		}
	}
}
