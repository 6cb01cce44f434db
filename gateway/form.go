package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/gateway/formdata"
	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
)

// form is a browser upload ("POST Object"), read up to its file. It becomes a PutObject: the fields are
// the headers, the file is the body.
type form struct {
	reader *formdata.Reader
	fields map[string]string // by lower-case name, with variables expanded
	policy *sigv4.PostPolicy // nil until the form is verified
	// address is the URL under which the client will reach the object, origin that of the page that
	// sends the form, "" for none.
	address, origin string
}

// isForm reports whether a call is a browser upload: a POST of multipart/form-data to a bucket.
func isForm(c *call) bool {
	return c.Method == http.MethodPost && c.level() == BucketLevel && len(c.query) == 0 && formdata.Is(c.Header.Get("Content-Type"))
}

// verifyForm reads the fields of a form and authenticates it by them.
func (p *pipeline) verifyForm(c *call) (err error) {
	if err := checkFormHeaders(c.Request); err != nil {
		return err
	}
	if c.form, err = readForm(c.Request); err != nil {
		return err
	}
	c.identity, c.form.policy, err = p.verifier.VerifyForm(c.key.Bucket, c.form.fields)
	return err
}

// checkFormHeaders refuses headers that say something about credentials or the object: no signature
// covers the headers of a form.
func checkFormHeaders(r *http.Request) error {
	if len(r.Header["Authorization"]) > 0 {
		return s3err.InvalidArgument.With("Only one auth mechanism allowed; a form is authenticated by its fields")
	}
	for name := range r.Header {
		if known, ok := amzHeaders[name]; strings.HasPrefix(name, metadataPrefix) || ok && !known.own {
			return s3err.AccessDenied.With("There were headers present in the request which were not signed").About("HeadersNotSigned", strings.ToLower(name))
		}
	}
	if r.ContentLength < 0 {
		return s3err.MissingContentLength
	}
	return nil
}

// readForm reads the fields of a form.
func readForm(r *http.Request) (*form, error) {
	reader, err := formdata.New(r.Body, r.ContentLength, r.Header.Get("Content-Type"))
	if err != nil {
		return nil, formError(err)
	}
	fields, err := reader.Fields()
	if err != nil {
		return nil, formError(err)
	}
	f := &form{reader: reader, origin: r.Header.Get("Origin")}
	if f.fields, err = expand(fields, reader.Filename); err != nil {
		return nil, err
	}
	switch key, ok := f.fields["key"]; {
	case !ok:
		return nil, sigv4.MissingField("key")
	case key == "":
		return nil, s3err.InvalidArgument.With("User key must have a length greater than 0.").About("ArgumentName", "key").About("ArgumentValue", "")
	default:
		f.address = scheme(r) + "://" + r.Host + strings.TrimSuffix(r.URL.EscapedPath(), "/") + "/" + s3utils.EncodePath(key)
	}
	return f, nil
}

// formError returns the S3 error of a form that could not be read.
func formError(err error) error {
	var coded *s3err.Error
	switch {
	case errors.As(err, &coded), err == io.EOF:
		return err
	case errors.Is(err, formdata.ErrMalformed):
		return s3err.MalformedPOSTRequest
	case errors.Is(err, formdata.ErrTooLarge):
		return s3err.MaxPostPreDataLength
	case errors.Is(err, formdata.ErrNoFile):
		return s3err.InvalidArgument.With("POST requires exactly one file upload per request.").About("ArgumentName", "file").About("ArgumentValue", "0")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s3err.RequestTimeout
	}
	return s3err.IncompleteBody
}

// expand returns the fields by lower-case name, with ${filename} replaced by the last element of the
// file's path, as the client knows it. What is expanded is what conditions are compared with.
func expand(fields []formdata.Field, path string) (map[string]string, error) {
	const variable = "${filename}"
	filename := path[strings.LastIndexAny(path, `/\`)+1:]
	expanded, size := make(map[string]string, len(fields)), 0
	for _, f := range fields {
		name := strings.ToLower(f.Name)
		if _, twice := expanded[name]; twice {
			return nil, s3err.InvalidArgument.With("The form field "+name+" was sent more than once.").About("ArgumentName", name)
		}
		if !sigv4.FormCredential(name) {
			size += len(f.Value) + strings.Count(f.Value, variable)*len(filename)
			if size > formdata.MaxFields {
				return nil, s3err.MaxPostPreDataLength
			}
			f.Value = strings.ReplaceAll(f.Value, variable, filename)
		}
		expanded[name] = f.Value
	}
	return expanded, nil
}

// accept turns the call of a verified form into a PutObject of the object that the form names. Nothing of
// the request's own headers is left. f is nil if the call is no form.
func (f *form) accept(c *call) (err error) {
	if f == nil {
		return s3err.PreconditionFailed.About("Condition", "Bucket POST must be of the enclosure-type multipart/form-data")
	}
	put := c.Request.WithContext(c.Request.Context())
	put.Method = http.MethodPut
	if put.Header, err = f.header(); err != nil {
		return err
	}
	c.Request, c.key.Name = put, f.fields["key"]
	return errors.Join(akigw.CheckKeyName(c.key.Name), c.checkHeaders())
}

// header returns the fields of a form that describe the object, as headers of a PutObject.
func (f *form) header() (http.Header, error) {
	h := http.Header{}
	for _, name := range slices.Sorted(maps.Keys(f.fields)) {
		header, value := formHeader(name), f.fields[name]
		if header == "" || value == "" && !strings.HasPrefix(header, metadataPrefix) {
			continue
		}
		if name == "tagging" {
			var err error
			if value, err = tagQuery(value); err != nil {
				return nil, err
			}
		}
		switch {
		case amzHeaders[header].own:
			return nil, s3err.NotImplemented.With("A form field you provided implies functionality that is not implemented").About("Field", name)
		case !httpguard.Token(name), hasControl(value):
			return nil, s3err.InvalidArgument.With("The name or the value of a form field contains forbidden characters.").About("ArgumentName", name)
		case len(h[header]) > 0:
			return nil, s3err.InvalidArgument.With("The form field "+name+" was also sent under another name.").About("ArgumentName", name)
		}
		h[header] = []string{value}
	}
	return h, nil
}

// formHeader returns the header that a field of a form stands for, "" for none.
func formHeader(field string) string {
	switch field {
	case "acl":
		return "X-Amz-Acl"
	case "tagging":
		return "X-Amz-Tagging"
	case "cache-control", "content-disposition", "content-encoding", "content-language", "content-md5", "content-type", "expires":
		return http.CanonicalHeaderKey(field)
	}
	if strings.HasPrefix(field, "x-amz-") && !sigv4.FormCredential(field) {
		return amzPrefix + http.CanonicalHeaderKey(field[len(amzPrefix):])
	}
	return ""
}

// tagQuery turns the tags of a form, a Tagging document, into those of a header (PutObject,
// x-amz-tagging).
func tagQuery(document string) (string, error) {
	var doc struct {
		Sets []struct {
			Tags []struct{ Key, Value []string } `xml:"Tag"`
		} `xml:"TagSet"`
	}
	if err := parseXML([]byte(document), "Tagging", &doc); err != nil {
		return "", err
	}
	if len(doc.Sets) != 1 {
		return "", s3err.MalformedXML
	}
	var tags []string
	for _, t := range doc.Sets[0].Tags {
		if len(t.Key) != 1 || len(t.Value) != 1 {
			return "", s3err.MalformedXML
		}
		tags = append(tags, url.QueryEscape(t.Key[0])+"="+url.QueryEscape(t.Value[0]))
	}
	return strings.Join(tags, "&"), nil
}

// formMemory is the size in bytes of the largest rest of a form that is read to its end before anything is
// sent upstream. Only such a form may have fields after its file: S3 takes no object of unknown length.
const formMemory = 8 << 20

// open makes the file of a form the payload of its call. How long the file is follows from the length
// of the request only if nothing follows the file. So the file of a small form is read into memory; that of
// a large one is streamed, and fails before its last byte if it turns out to be shorter or longer.
func (f *form) open(c *call) (err error) {
	file, length := io.Reader(&formFile{reader: f.reader, left: f.reader.Size()}), f.reader.Size()
	if rest := f.reader.Rest(); rest <= formMemory && c.reserve(rest) == nil {
		c.deadline.pause() // the client decides how long this takes
		data, err := f.readFile(rest)
		c.deadline.resume()
		if err != nil {
			return err
		}
		file, length = bytes.NewReader(data), int64(len(data))
	}
	c.ContentLength = length
	c.payload, err = f.policy.Payload(file, length)
	return err
}

// readFile reads the file and what follows it, at most limit bytes.
func (f *form) readFile(limit int64) ([]byte, error) {
	in := bytes.NewBuffer(make([]byte, 0, limit+bytes.MinRead))
	_, err := in.ReadFrom(f.reader)
	if err == nil {
		err = f.reader.Finish()
	}
	if err != nil {
		return nil, formError(err)
	}
	return in.Bytes(), nil
}

// formFile is the file of a form whose length was announced.
type formFile struct {
	reader *formdata.Reader
	left   int64
}

// Read implements io.Reader. It fails unless the announced length is the file's.
func (f *formFile) Read(p []byte) (int, error) {
	n, err := f.reader.Read(p)
	f.left -= int64(n)
	switch {
	case f.left < 0, err == io.EOF && f.left > 0:
		return 0, s3err.MalformedPOSTRequest.With("In a form of more than " + strconv.Itoa(formMemory>>20) +
			" MiB, the file must be the last field, and the closing boundary must end with a line end.")
	case err == io.EOF:
		err = cmp.Or(f.reader.Finish(), io.EOF)
	}
	if err != nil {
		err = formError(err)
	}
	return n, err
}

// formUploads answers PostObject.
type formUploads struct {
	Upstream Upstream
	writes   *objectWrites
}

// postObject answers PostObject as a PutObject, and shapes the response as the form asks.
func (g *formUploads) postObject(w *answer, c *call, id sigv4.Identity) error {
	g.share(w, c)
	return g.writes.putObject(&answer{ResponseWriter: &formAnswer{answer: w, call: c}, started: w.started}, c, id)
}

// formAnswer turns the response to a PutObject that has succeeded into the one to a form.
type formAnswer struct {
	*answer
	call   *call
	shaped bool
}

// WriteHeader implements http.ResponseWriter.
func (a *formAnswer) WriteHeader(status int) {
	if status != http.StatusOK {
		a.answer.WriteHeader(status)
		return
	}
	a.shaped = true
	h, form := a.Header(), a.call.form
	delete(h, "Content-Length")
	delete(h, "Content-Type")
	etag := ""
	if values := h["ETag"]; len(values) > 0 {
		etag = values[0]
	}
	if target := form.redirect(a.call.key, etag); target != "" {
		h.Set("Location", target)
		h.Set("Content-Length", "0")
		a.answer.WriteHeader(http.StatusSeeOther)
		return
	}
	h.Set("Location", form.address)
	switch form.fields["success_action_status"] {
	case "200":
		h.Set("Content-Length", "0")
		a.answer.WriteHeader(http.StatusOK)
	case "201":
		document := form.response(a.call.key, etag)
		h.Set("Content-Type", "application/xml")
		h.Set("Content-Length", strconv.Itoa(len(document)))
		a.answer.WriteHeader(http.StatusCreated)
		_, _ = a.answer.Write(document) // a client that has disconnected does not read it
	default: // also for any other value
		a.answer.WriteHeader(http.StatusNoContent)
	}
}

// Write implements http.ResponseWriter. The response to a PutObject that has succeeded has no body.
func (a *formAnswer) Write(p []byte) (int, error) {
	if a.shaped {
		return len(p), nil
	}
	return a.answer.Write(p)
}

// redirect returns where the browser is to go after the upload, "" for nowhere. A policy has named the
// field; a value that is no address is ignored, as S3 does.
func (f *form) redirect(key akigw.Key, etag string) string {
	u, err := url.Parse(cmp.Or(f.fields["success_action_redirect"], f.fields["redirect"]))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	query := "bucket=" + url.QueryEscape(key.Bucket) + "&key=" + url.QueryEscape(key.Name) + "&etag=" + url.QueryEscape(etag)
	if u.RawQuery != "" {
		query = u.RawQuery + "&" + query
	}
	u.RawQuery = query
	return u.String()
}

// response returns the PostResponse document.
func (f *form) response(key akigw.Key, etag string) []byte {
	var b bytes.Buffer
	b.WriteString(s3xml.Header + "<PostResponse>")
	element(&b, "Location", f.address)
	element(&b, "Bucket", key.Bucket)
	element(&b, "Key", key.Name)
	element(&b, "ETag", etag)
	b.WriteString("</PostResponse>")
	return b.Bytes()
}
