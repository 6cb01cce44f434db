package formdata

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const contentType = "multipart/form-data; boundary=b"

// part returns a part of a form with the boundary b.
func part(disposition, value string) string {
	return "--b\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n"
}

// read reads a form as the gateway does.
func read(in io.Reader, size int64) (fields []Field, r *Reader, file []byte, announced int64, err error) {
	if r, err = New(in, size, contentType); err != nil {
		return nil, nil, nil, 0, err
	}
	if fields, err = r.Fields(); err != nil {
		return nil, nil, nil, 0, err
	}
	announced = r.Size()
	if file, err = io.ReadAll(r); err == nil {
		err = r.Finish()
	}
	return fields, r, file, announced, err
}

func TestForms(t *testing.T) {
	key, file := part(`name="key"`, "a/b"), part(`name="file"; filename="C:\d\f.txt"`, "content")
	long := strings.Repeat("x", MaxFields-len(part(`name="k"`, ""))-len(part(`name="file"`, ""))+len("\r\n"))
	for name, c := range map[string]struct {
		body   string
		fields []Field
		file   string
		exact  bool // its size is known before its end
		err    error
	}{
		"a field and a file":            {key + file + "--b--\r\n", []Field{{"key", "a/b"}}, "content", true, nil},
		"no line end at the end":        {key + file + "--b--", []Field{{"key", "a/b"}}, "content", false, nil},
		"a field after the file":        {file + key + "--b--\r\n", nil, "content", false, nil},
		"anything after the file":       {file + "--b\r\n: nonsense", nil, "content", false, nil},
		"an epilogue":                   {file + "--b--\r\ntail", nil, "content", false, nil},
		"a file without an empty line":  {key + "--b\r\nContent-Disposition: form-data; name=file\r\n\r\n--b--\r\n", []Field{{"key", "a/b"}}, "", true, nil},
		"a preamble":                    {"for people\r\n" + key + file + "--b--\r\n", []Field{{"key", "a/b"}}, "content", true, nil},
		"padding after the boundary":    {strings.Replace(key, "--b", "--b \t", 1) + file + "--b--\r\n", []Field{{"key", "a/b"}}, "content", true, nil},
		"other headers of a part":       {"--b\r\nX: y\r\ncontent-disposition: FORM-data; NAME=key\r\nContent-Type: text/plain\r\n\r\nv\r\n" + file + "--b--\r\n", []Field{{"key", "v"}}, "content", true, nil},
		"an empty field, an empty file": {part(`name="key"`, "") + part(`name="FILE"; filename=""`, "") + "--b--\r\n", []Field{{"key", ""}}, "", true, nil},
		"a value of lines":              {part(`name="key"`, "\r\n--c\r\n--bc\r\n") + file + "--b--\r\n", []Field{{"key", "\r\n--c\r\n--bc\r\n"}}, "content", true, nil},
		"a file like a boundary":        {part(`name="file"`, "\r\n--\r\n--b\r-\r\n--bb\r\n--c--\r\n-") + "--b--\r\n", nil, "\r\n--\r\n--b\r-\r\n--bb\r\n--c--\r\n-", true, nil},
		"the longest fields":            {part(`name="k"`, long) + part(`name="file"`, "content") + "--b--\r\n", []Field{{"k", long}}, "content", true, nil},
		"fields that are too long":      {part(`name="k"`, long+"x") + part(`name="file"`, "content") + "--b--\r\n", nil, "", false, ErrTooLarge},
		"a value that never ends":       {part(`name="k"`, strings.Repeat("x", 1<<20)), nil, "", false, ErrTooLarge},
		"a header that never ends":      {"--b\r\n" + strings.Repeat("x", 1<<20), nil, "", false, ErrTooLarge},
		"many fields":                   {strings.Repeat(key, 1000), nil, "", false, ErrTooLarge},
		"no file":                       {key + "--b--\r\n", nil, "", false, ErrNoFile},
		"nothing":                       {"", nil, "", false, ErrMalformed},
		"another boundary":              {strings.ReplaceAll(key+file, "--b", "--c"), nil, "", false, ErrMalformed},
		"an end in a field":             {key[:len(key)-3], nil, "", false, ErrMalformed},
		"an end in a header":            {key + "--b\r\nContent-Disp", nil, "", false, ErrMalformed},
		"an end in the file":            {key + file[:len(file)-3], []Field{{"key", "a/b"}}, "", false, ErrMalformed},
		"an end in the last boundary":   {key + file + "--b", []Field{{"key", "a/b"}}, "", false, ErrMalformed},
		"bare line feeds":               {strings.ReplaceAll(key+file+"--b--\r\n", "\r\n", "\n"), nil, "", false, ErrMalformed},
		"a header without a colon":      {"--b\r\nnonsense\r\n\r\nv\r\n" + file + "--b--\r\n", nil, "", false, ErrMalformed},
		"a folded header":               {"--b\r\nContent-Disposition: form-data;\r\n name=key\r\n\r\nv\r\n" + file + "--b--\r\n", nil, "", false, ErrMalformed},
		"no disposition":                {"--b\r\nX: y\r\n\r\nv\r\n" + file + "--b--\r\n", nil, "", false, ErrMalformed},
		"two dispositions":              {"--b\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\nv\r\n" + file + "--b--\r\n", nil, "", false, ErrMalformed},
		"another disposition":           {"--b\r\nContent-Disposition: attachment; name=a\r\n\r\nv\r\n" + file + "--b--\r\n", nil, "", false, ErrMalformed},
		"no name":                       {part(`filename="f"`, "v") + file + "--b--\r\n", nil, "", false, ErrMalformed},
		"a name twice":                  {part(`name="a"; name="b"`, "v") + file + "--b--\r\n", nil, "", false, ErrMalformed},
		"text after the boundary":       {strings.Replace(key, "--b", "--b x", 1) + file + "--b--\r\n", nil, "", false, ErrMalformed},
	} {
		for pace, in := range map[string]io.Reader{"at once": strings.NewReader(c.body), "byte by byte": iotest.OneByteReader(strings.NewReader(c.body)), "with its end": iotest.DataErrReader(strings.NewReader(c.body))} {
			fields, r, content, announced, err := read(in, int64(len(c.body)))
			if !errors.Is(err, c.err) || err == nil && c.err != nil {
				t.Errorf("%s, %s: %v, want %v", name, pace, err, c.err)
				continue
			}
			if err != nil {
				continue
			}
			if !slices.Equal(fields, c.fields) || string(content) != c.file || (announced == int64(len(c.file))) != c.exact || r.Rest() != 0 {
				t.Errorf("%s, %s: %q %q, %d announced, %d left", name, pace, fields, content, announced, r.Rest())
			}
			if strings.Contains(c.body, `C:\d\f.txt`) && r.Filename != `C:\d\f.txt` {
				t.Errorf("%s: the file's name is %q", name, r.Filename)
			}
		}
	}
}

// TestBrokenBodies: the error of a body is passed on, wherever it occurs.
func TestBrokenBodies(t *testing.T) {
	body := part(`name="key"`, "a/b") + part(`name="file"`, "content") + "--b--\r\n"
	broken := errors.New("the client has gone")
	for n := range len(body) {
		in := io.MultiReader(strings.NewReader(body[:n]), iotest.ErrReader(broken))
		if _, _, _, _, err := read(in, int64(len(body))); err != broken {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestContentTypes(t *testing.T) {
	for value, want := range map[string]bool{"multipart/form-data; boundary=b": true, "Multipart/Form-Data;Boundary=\"b\"": true, "multipart/form-data": false, "multipart/form-data; boundary=": false,
		"multipart/form-data; boundary=" + strings.Repeat("b", 71): false, "multipart/form-data; boundary=b; boundary=c": false} {
		if _, err := New(strings.NewReader(""), 0, value); (err == nil) != want || !Is(value) {
			t.Errorf("%q: %v", value, err)
		}
	}
	for _, value := range []string{"", "multipart/mixed; boundary=b", "application/x-www-form-urlencoded", "multipart/form-data2; boundary=b"} {
		if Is(value) {
			t.Errorf("%q is a form", value)
		}
	}
}

// FuzzForm: whatever mime/multipart takes for a file, is the file, and the sizes add up.
func FuzzForm(f *testing.F) {
	f.Add([]byte(part(`name="key"`, "a/b")+part(`name="file"; filename="f"`, "content")+"--b--\r\n"), uint8(7))
	f.Add([]byte("\r\n--b \r\nA: b\r\nContent-Disposition: form-data; name=file\r\n\r\n\r\n--b\r\n\r\n--b--"), uint8(1))
	f.Add([]byte("--b\r\n\r\n--b--\n--b\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, body []byte, chunk uint8) {
		in := &chunks{body, int(chunk) + 1}
		fields, r, content, announced, err := read(in, int64(len(body)))
		if err != nil {
			return
		}
		if r.Rest() != 0 || announced > int64(len(body)) {
			t.Fatalf("%q: %d bytes left, %d announced", body, r.Rest(), announced)
		}
		if bytes.Count(body, []byte("\n")) != bytes.Count(body, []byte("\r\n")) {
			return // mime/multipart takes bare line feeds for line ends
		}
		standard := multipart.NewReader(bytes.NewReader(body), "b")
		for i := 0; ; i++ {
			p, err := standard.NextRawPart()
			if err != nil {
				return // it refuses some forms that are well-formed
			}
			value, err := io.ReadAll(p)
			if err != nil {
				return
			}
			if i < len(fields) {
				if p.FormName() != fields[i].Name || string(value) != fields[i].Value {
					t.Fatalf("%q: %q, want %q %q", body, fields[i], p.FormName(), value)
				}
				continue
			}
			if string(value) != string(content) {
				t.Fatalf("%q: the file is %q, want %q", body, content, value)
			}
			return
		}
	})
}

// chunks is a body that arrives in pieces.
type chunks struct {
	left []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size)], c.left)
	c.left = c.left[n:]
	return n, nil
}

func BenchmarkFile(b *testing.B) {
	body := []byte(part(`name="file"`, strings.Repeat("0123456789abcde\n", 1<<16)) + "--b--\r\n")
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r, err := New(bytes.NewReader(body), int64(len(body)), contentType)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Fields(); err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, struct{ io.Reader }{r}); err != nil || n != 1<<20 {
			b.Fatal(n, err)
		}
	}
}
