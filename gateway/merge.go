package gateway

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback/overlay"
)

// A listing of a bucket that is written back is one sorted stream: what the upstream
// has, with what is pending put over it. It is cut into pages here. What comes after
// a page is said by its last key or common prefix, not by a token of the upstream's:
// that would not know of pending keys.

// listRequest is a parsed ListObjects or ListObjectsV2.
type listRequest struct {
	call              *Call
	v2, encoded       bool
	prefix, delimiter string
	max               int
	after             string // items up to this one have been sent
	afterPrefix       bool   // it is a common prefix: what begins with it has been
}

// listItem is one line of a listing: a key or a common prefix.
type listItem struct {
	name   string
	prefix bool
	raw    []byte // the elements of its Contents, as the upstream sent them, but the key
}

// listMerged answers a listing of a bucket that is written back.
func (g *Gateway) listMerged(w *answer, c *Call) error {
	q, err := parseList(c)
	if err != nil {
		return err
	}
	items, truncated := []listItem(nil), false
	for q.max > 0 {
		page, more, err := g.mergedPage(q, q.max-len(items))
		if err != nil {
			return err
		}
		items = append(items, page...)
		if truncated = more; !more || len(items) >= q.max {
			break
		}
		if len(page) > 0 {
			last := page[len(page)-1]
			q.after, q.afterPrefix = last.name, last.prefix
		}
	}
	document := q.document(items, truncated)
	h := w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(len(document)))
	_, _ = w.Write(document) // a client that has gone does not read its answer
	return nil
}

func parseList(c *Call) (*listRequest, error) {
	q := &listRequest{call: c, v2: c.query.Get("list-type") == "2", prefix: c.query.Get("prefix"), delimiter: c.query.Get("delimiter"), max: maxListKeys}
	switch c.query.Get("encoding-type") {
	case "":
	case "url":
		q.encoded = true
	default:
		return nil, s3err.InvalidArgument.With("Invalid Encoding Method specified in Request").About("ArgumentName", "encoding-type").About("ArgumentValue", c.query.Get("encoding-type"))
	}
	if v := c.query.Get("max-keys"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, s3err.InvalidArgument
		}
		q.max = min(n, maxListKeys)
	}
	if q.v2 && c.query.Has("continuation-token") {
		return q, q.parseToken(c.query.Get("continuation-token"))
	}
	q.after = c.query.Get("marker")
	if q.v2 {
		q.after = c.query.Get("start-after")
	}
	q.afterPrefix = q.after != "" && strings.HasPrefix(q.after, q.prefix) && q.common(q.after) == q.after
	return q, nil
}

// maxListKeys is the largest page (S3: 1,000).
const maxListKeys = 1000

// token is where the next page goes on: the last item of this one, and a hash of
// what was asked, so that nobody gets pages of two questions mixed. There is nothing
// secret in it: it says no more than start-after can.
func (q *listRequest) token(last listItem) string {
	b := codec.AppendFlag([]byte{tokenVersion}, last.prefix)
	b = codec.AppendString(b, last.name)
	return base64.RawURLEncoding.EncodeToString(append(b, q.hash(b)...))
}

const tokenVersion = 1

func (q *listRequest) hash(b []byte) []byte {
	h := fnv.New64a()
	for _, part := range []string{q.call.key.Bucket, q.prefix, q.delimiter, string(b)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum(nil)
}

func (q *listRequest) parseToken(token string) error {
	wrong := s3err.InvalidArgument.With("The continuation token provided is incorrect").About("ArgumentName", "continuation-token")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 10 {
		return wrong
	}
	b, sum := raw[:len(raw)-8], raw[len(raw)-8:]
	d := codec.NewDecoder(b)
	version := d.Byte()
	q.afterPrefix, q.after = d.Flag(), d.String()
	if version != tokenVersion || d.Bad() || len(d.Rest()) > 0 || !bytes.Equal(sum, q.hash(b)) {
		return wrong
	}
	return nil
}

// common returns the common prefix that a key belongs to, "" for none.
func (q *listRequest) common(name string) string {
	if q.delimiter == "" {
		return ""
	}
	if i := strings.Index(name[len(q.prefix):], q.delimiter); i >= 0 {
		return name[:len(q.prefix)+i+len(q.delimiter)]
	}
	return ""
}

// sent reports whether an item has been sent already. A common prefix can be smaller
// than a key behind which a listing starts, and have more keys.
func (q *listRequest) sent(item listItem) bool {
	if q.afterPrefix && strings.HasPrefix(item.name, q.after) {
		return true
	}
	return !item.prefix && q.after != "" && item.name <= q.after
}

// from is the first key that has not been sent.
func (q *listRequest) from() string {
	switch {
	case q.after == "":
		return ""
	case q.afterPrefix:
		return beyond(q.after)
	}
	return q.after + "\x00"
}

// beyond is the first string behind all that begin with prefix. Keys are UTF-8,
// which has no byte 0xff.
func beyond(prefix string) string { return prefix + "\xff" }

// mergedPage returns the next items, max at the most, and whether there may be more.
// The journal is looked at first: what was acknowledged before is either there or
// upstream by the time that the upstream is asked.
func (g *Gateway) mergedPage(q *listRequest, max int) (items []listItem, more bool, err error) {
	pending, beyondPending := g.Writes.Overlay.Changes(q.call.key.Bucket, q.prefix, q.from(), maxOverlay)
	upstream, truncated, err := g.upstreamPage(q, max)
	if err != nil {
		return nil, false, err
	}
	// Of what lies behind the end of either stream nothing is known yet.
	end, behind := "", listItem{}
	if truncated && len(upstream) > 0 {
		behind = upstream[len(upstream)-1]
		end = behind.name
		if behind.prefix {
			end = beyond(end)
		}
	}
	if beyondPending {
		if last := pending[len(pending)-1].Name; end == "" || last < end {
			end, behind = last, listItem{name: last}
		}
	}
	known := func(name string) bool { return end == "" || name <= end }
	deleted := map[string]bool{}
	var over []listItem
	for _, p := range pending {
		if !known(p.Name) {
			break
		}
		common := q.common(p.Name)
		switch {
		case p.Deleted:
			deleted[p.Name] = true
		case common == "":
			over = append(over, listItem{name: p.Name, raw: pendingContents(p)})
		case len(over) == 0 || over[len(over)-1].name != common:
			over = append(over, listItem{name: common, prefix: true})
		}
	}
	for len(over)+len(upstream) > 0 && len(items) < max {
		var next listItem
		switch {
		case len(over) == 0 || len(upstream) > 0 && upstream[0].name < over[0].name:
			next, upstream = upstream[0], upstream[1:]
			if !known(next.name) {
				return items, true, nil
			}
			if next.prefix {
				alive, err := g.alive(q, next.name)
				if err != nil {
					return nil, false, err
				}
				if !alive {
					continue
				}
			} else if deleted[next.name] {
				continue
			}
		default:
			if len(upstream) > 0 && upstream[0].name == over[0].name {
				upstream = upstream[1:]
			}
			next, over = over[0], over[1:]
		}
		items = append(items, next)
	}
	more = truncated || beyondPending || len(over)+len(upstream) > 0
	if more && len(items) == 0 { // all of it is deleted: go on behind it
		q.after, q.afterPrefix = behind.name, behind.prefix
	}
	return items, more, nil
}

// maxOverlay is how many pending keys a page looks at.
const maxOverlay = 4000

// alive reports whether something below a common prefix of the upstream's is left
// when what is pending is deleted.
func (g *Gateway) alive(q *listRequest, prefix string) (bool, error) {
	gone := map[string]bool{}
	pending, _ := g.Writes.Overlay.Changes(q.call.key.Bucket, prefix, "", math.MaxInt)
	for _, p := range pending {
		if p.Deleted {
			gone[p.Name] = true
		}
	}
	if len(gone) == 0 {
		return true, nil
	}
	inner := &listRequest{call: q.call, v2: q.v2, prefix: prefix}
	if strings.HasPrefix(q.after, prefix) { // what is before it does not count
		inner.after = q.after
	}
	for {
		page, truncated, err := g.upstreamPage(inner, maxListKeys)
		if err != nil {
			return false, err
		}
		for _, item := range page {
			if !gone[item.name] {
				return true, nil
			}
		}
		if !truncated || len(page) == 0 {
			return false, nil
		}
		inner.after = page[len(page)-1].name
	}
}

// upstreamList is a page as the upstream sent it. Contents are kept as they are.
type upstreamList struct {
	IsTruncated  bool
	EncodingType string
	Contents     []struct {
		Key string
		Raw []byte `xml:",innerxml"`
	}
	CommonPrefixes []struct{ Prefix string }
}

// upstreamPage asks the upstream for what comes after q.after, max items at the most
// besides those that were sent.
func (g *Gateway) upstreamPage(q *listRequest, max int) (items []listItem, truncated bool, err error) {
	items, truncated, last, err := g.pageOf(q, q.after, max)
	if err == nil && truncated && strings.HasPrefix(last, overlay.ReservedPrefix) { // the gateway's own keys are passed over
		var more []listItem
		more, truncated, _, err = g.pageOf(q, beyond(overlay.ReservedPrefix), max)
		items = append(items, more...)
	}
	if err == nil && truncated && len(items) == 0 {
		err = fmt.Errorf("%w: listing of %s: a page without anything new says that there is more", akigw.ErrUpstreamUnavailable, q.call.key.Bucket)
	}
	return items, truncated, err
}

// pageOf asks the upstream for what comes after a key, and says which item was the
// last.
func (g *Gateway) pageOf(q *listRequest, after string, max int) (items []listItem, truncated bool, last string, err error) {
	query := url.Values{"prefix": {q.prefix}, "max-keys": {strconv.Itoa(min(max+1, maxListKeys))}, "encoding-type": {"url"}}
	if q.delimiter != "" {
		query.Set("delimiter", q.delimiter)
	}
	if q.v2 {
		query.Set("list-type", "2")
		query.Set("start-after", after)
		if q.call.query.Has("fetch-owner") {
			query.Set("fetch-owner", q.call.query.Get("fetch-owner"))
		}
	} else {
		query.Set("marker", after)
	}
	for name, values := range query {
		if values[0] == "" {
			delete(query, name)
		}
	}
	request := q.call.upstreamRequest()
	request.Query = query
	var list upstreamList
	if err := g.ask(q.call, request, "ListBucketResult", &list); err != nil {
		return nil, false, "", err
	}
	name := func(s string) string { return decodedName(s, list.EncodingType) }
	i, k := 0, 0
	for i < len(list.Contents) || k < len(list.CommonPrefixes) {
		var item listItem
		if k == len(list.CommonPrefixes) || i < len(list.Contents) && name(list.Contents[i].Key) < name(list.CommonPrefixes[k].Prefix) {
			item = listItem{name: name(list.Contents[i].Key), raw: withoutKey(list.Contents[i].Raw)}
			if t := g.Writes.Overlay.Translation(akigw.Key{Bucket: q.call.key.Bucket, Name: item.name}); t != nil {
				item.raw = promised(item.raw, t)
			}
			i++
		} else {
			item = listItem{name: name(list.CommonPrefixes[k].Prefix), prefix: true}
			k++
		}
		last = item.name
		if !q.sent(item) && !hidden(item) {
			items = append(items, item)
		}
	}
	return items, list.IsTruncated, last, nil
}

// hidden reports whether a line is the gateway's own, or has nothing else below it.
func hidden(item listItem) bool {
	return strings.HasPrefix(item.name, overlay.ReservedPrefix) || item.prefix && item.name == strings.SplitAfter(overlay.ReservedPrefix, "/")[0]
}

// ask asks the upstream for a listing, whose root has this name at S3.
func (g *Gateway) ask(c *Call, request *cold.Request, root string, into any) error {
	resp, err := g.Upstream.Do(c.Context(), request)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return cold.NewResponseError(resp)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxList))
	if err == nil {
		err = s3xml.Unmarshal(body, into)
	}
	if err == nil && !s3xml.IsAnswer(body, root, "IsTruncated") {
		err = fmt.Errorf("no %s", root)
	}
	if err != nil {
		return fmt.Errorf("%w: listing of %s: %w", akigw.ErrUpstreamUnavailable, c.key.Bucket, err)
	}
	return nil
}

// decodedName is a key or a prefix of an upstream's listing.
func decodedName(s, encoding string) string {
	if encoding == "url" {
		if decoded, err := url.QueryUnescape(s); err == nil {
			return decoded
		}
	}
	return s
}

// listEncoded is a name with encoding-type=url.
func listEncoded(s string) string {
	return strings.NewReplacer("%2F", "/", "+", "%20").Replace(url.QueryEscape(s))
}

// maxList bounds what is read of a page, in bytes.
const maxList = 16 << 20

// withoutKey takes the Key element out of the elements of a Contents.
func withoutKey(raw []byte) []byte {
	from, to := bytes.Index(raw, []byte("<Key>")), bytes.Index(raw, []byte("</Key>"))
	if from < 0 || to < from {
		return raw
	}
	return append(bytes.Clone(raw[:from]), raw[to+len("</Key>"):]...)
}

// pendingContents are the elements of a pending key.
func pendingContents(p overlay.Change) []byte {
	var b bytes.Buffer
	element(&b, "LastModified", p.Modified.UTC().Format(listTime))
	element(&b, "ETag", p.ETag)
	element(&b, "Size", strconv.FormatInt(p.Size, 10))
	element(&b, "StorageClass", "STANDARD")
	return b.Bytes()
}

// document writes a page.
func (q *listRequest) document(items []listItem, truncated bool) []byte {
	text := func(s string) string {
		if q.encoded {
			return listEncoded(s)
		}
		return s
	}
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<ListBucketResult xmlns="` + namespace + `">`)
	element(&b, "Name", q.call.key.Bucket)
	element(&b, "Prefix", text(q.prefix))
	if q.delimiter != "" {
		element(&b, "Delimiter", text(q.delimiter))
	}
	element(&b, "MaxKeys", strconv.Itoa(q.max))
	if q.encoded {
		element(&b, "EncodingType", "url")
	}
	element(&b, "IsTruncated", strconv.FormatBool(truncated && len(items) > 0))
	if q.v2 {
		element(&b, "KeyCount", strconv.Itoa(len(items)))
		for _, name := range []string{"start-after", "continuation-token"} {
			if q.call.query.Has(name) {
				element(&b, map[string]string{"start-after": "StartAfter", "continuation-token": "ContinuationToken"}[name], text(q.call.query.Get(name)))
			}
		}
		if truncated && len(items) > 0 {
			element(&b, "NextContinuationToken", q.token(items[len(items)-1]))
		}
	} else {
		element(&b, "Marker", text(q.call.query.Get("marker")))
		if truncated && len(items) > 0 && q.delimiter != "" {
			element(&b, "NextMarker", text(items[len(items)-1].name))
		}
	}
	for _, item := range items {
		if !item.prefix {
			b.WriteString("<Contents>")
			element(&b, "Key", text(item.name))
			b.Write(item.raw)
			b.WriteString("</Contents>")
		}
	}
	for _, item := range items {
		if item.prefix {
			b.WriteString("<CommonPrefixes>")
			element(&b, "Prefix", text(item.name))
			b.WriteString("</CommonPrefixes>")
		}
	}
	b.WriteString("</ListBucketResult>")
	return b.Bytes()
}
