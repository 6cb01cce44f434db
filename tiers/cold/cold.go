// Package cold is the coldest tier: the upstream S3 service. It owns the one
// pooled transport, builds every upstream request anew from parsed fields,
// signs it at the moment it is sent, and watches that answers arrive and keep
// flowing.
//
// Reads that fail are sent again within an allowance that all requests to one
// upstream share; a breaker for each bucket keeps requests from an upstream
// that fails; slow reads can be sent twice.
//
// It never follows redirects, never dials another host than the configured
// one, and never repeats a request that may change something, unless it is sure
// that the upstream did not see it. It does not interpret answers: status,
// headers and body are the caller's to read.
package cold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cespare/xxhash/v2"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw"
)

// Config names the upstream. Keys of the configuration file: [upstream].
type Config struct {
	URL       string `toml:"url" env:"AKIGW_UPSTREAM" help:"endpoint of the S3 service behind the gateway; empty starts the embedded trial upstream"`
	AccessKey string `toml:"access_key" help:"access key id for the upstream"`
	SecretKey string `toml:"secret_key" secret:"true" help:"secret access key for the upstream"`
	Region    string `toml:"region" help:"region to sign upstream requests for"`
	// TrailingChecksums sends a client's trailing checksum on as a trailer.
	// Off for an upstream that rejects aws-chunked bodies: then the gateway
	// alone verifies it.
	TrailingChecksums bool `toml:"trailing_checksums" help:"pass trailing checksums of large uploads on to the upstream; switch off for a service that rejects them"`
	// Credentials says where the keys come from.
	Credentials          string `toml:"credentials" help:"where the upstream's keys come from. static: access_key and secret_key. environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN. file: a shared credentials file. instance: the role of the EC2 instance, ECS task or EKS pod. web-identity: a token file, exchanged at STS. chain: the first of environment, file and the two roles that has any"`
	CredentialsFile      string `toml:"credentials_file" help:"the shared credentials file; empty: AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials"`
	CredentialsProfile   string `toml:"credentials_profile" help:"the profile in it; empty: AWS_PROFILE or default"`
	CredentialsEndpoint  string `toml:"credentials_endpoint" help:"where roles are asked for, instead of AWS's instance metadata service or STS"`
	RoleARN              string `toml:"role_arn" help:"the role for web-identity; empty: AWS_ROLE_ARN"`
	WebIdentityTokenFile string `toml:"web_identity_token_file" help:"the token file for web-identity; empty: AWS_WEB_IDENTITY_TOKEN_FILE"`

	Retries      int `toml:"retries" help:"how often a read that got no answer, or 429, 500, 502, 503 or 504, is sent again. All retries and hedges together add at most a fifth to the requests"`
	HedgeAfterMs int `toml:"hedge_after_ms" help:"milliseconds after which a read that has no answer yet is sent a second time, and the first answer taken; 0: never"`
	MaxRequests  int `toml:"max_requests" help:"requests to the upstream that may be under way; those that wait are served in fair shares by identity and the weight of their class. 0: no limit"`

	Events string `toml:"events" help:"how changes of the upstream's objects are heard of, for freshness events. stream: MinIO's bucket notifications. webhook: S3 event notifications that somebody posts to /events of the admin listener"`

	// Log is told of keys that cannot be fetched; nil: nobody is.
	Log *slog.Logger
	// Identity stands for the URL in the identity of cached objects, "" for the
	// URL itself.
	Identity string

	BreakerPercent int `toml:"breaker_percent" help:"share of failed requests in ten seconds, of 20 or more to one bucket, after which requests to it are refused for two seconds; 0: never"`

	RequestDeadlineSecs int `toml:"request_deadline_secs" help:"seconds within which GET, HEAD, listings and DELETE are answered, with all retries and waits: 503 after that. The body of an answer may take longer, as long as it makes progress"`
	WriteDeadlineSecs   int `toml:"write_deadline_secs" help:"seconds within which PUT and UploadPart are answered, from the last byte of the body on; a body that stands still for so long ends its request, too"`
	LongDeadlineSecs    int `toml:"long_deadline_secs" help:"the same for what may take long: CompleteMultipartUpload, copies, DeleteObjects and whatever is only forwarded"`
	SuspectAfterMs      int `toml:"suspect_after_ms" help:"milliseconds without a byte in either direction, of two or more requests, after which a probe finds out whether the upstream still answers. If it does not, the upstream is suspect: requests that need it are refused with 503 at once until a probe is answered"`
	ProbeTimeoutMs      int `toml:"probe_timeout_ms" help:"milliseconds that such a probe waits for an answer; more than the upstream takes when it is slow"`
}

// SetDefaults sets the values behind all others.
func (c *Config) SetDefaults() {
	c.Region, c.TrailingChecksums, c.Credentials, c.Events, c.Retries, c.BreakerPercent, c.MaxRequests = "us-east-1", true, staticKeys, string(Stream), 2, 50, 256
	c.RequestDeadlineSecs, c.WriteDeadlineSecs, c.LongDeadlineSecs = defaultRead, defaultWrite, defaultLong
	c.SuspectAfterMs, c.ProbeTimeoutMs = defaultSuspectAfter, defaultProbeTimeout
}

// PoolConfig bounds the connection pool: [storage.connection_pool].
type PoolConfig struct {
	PoolSize        int `toml:"pool_size" help:"idle upstream connections that are kept open"`
	IdleTimeoutSecs int `toml:"idle_timeout_secs" help:"seconds after which an idle upstream connection is closed"`
}

// Check reports every impossible value by its key.
func (c *Config) Check(report func(key, problem string)) {
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			report("url", "must be http://HOST[:PORT] or https://HOST[:PORT]")
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
			report("url", "must not have a path, a query or credentials")
		}
	}
	c.checkCredentials(report)
	if c.Region == "" {
		report("region", "must not be empty")
	}
	if c.Events != string(Stream) && c.Events != string(Webhook) {
		report("events", "must be stream or webhook")
	}
	if c.Retries < 0 || c.Retries > 10 {
		report("retries", "must be 0 to 10")
	}
	if c.MaxRequests < 0 {
		report("max_requests", "must not be negative")
	}
	if c.HedgeAfterMs < 0 || c.HedgeAfterMs > 60_000 {
		report("hedge_after_ms", "must be 0 to 60000")
	}
	if c.BreakerPercent < 0 || c.BreakerPercent > 100 {
		report("breaker_percent", "must be 0 to 100")
	}
	c.checkDeadlines(report)
}

// Check reports every impossible value by its key.
func (c *PoolConfig) Check(report func(key, problem string)) {
	if c.PoolSize < 1 || c.PoolSize > 10000 {
		report("pool_size", "must be 1 to 10000")
	}
	if c.IdleTimeoutSecs < 1 || c.IdleTimeoutSecs > 3600 {
		report("idle_timeout_secs", "must be 1 to 3600")
	}
}

// Upstream sends signed requests to one S3 endpoint. All methods may be called
// from any goroutine.
type Upstream struct {
	config    Config
	base      url.URL
	transport http.RoundTripper
	closeIdle func()
	origin    uint64
	keyring   *keyring
	repeats   *allowance
	breakers  breakers
	link      *link
	deadlines Deadlines
	suspicion *suspicion
	probes    http.RoundTripper // opens a connection for each request
	skew      atomic.Int64      // of the clocks, in nanoseconds
	work      sync.WaitGroup    // hedged requests and probes
	end       context.CancelFunc

	mu        sync.Mutex
	observers []func(suspect bool) // see OnSuspect; guarded by mu
}

// New builds an Upstream. wrap, if not nil, is put around the transport; it is
// where tests and the fault layer stand.
func New(config Config, pool PoolConfig, wrap func(http.RoundTripper) http.RoundTripper) (*Upstream, error) {
	base, err := url.Parse(config.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream.url: %w", err)
	}
	t := newConnectionPool(newDialer(base), pool)
	u := &Upstream{config: config, base: url.URL{Scheme: base.Scheme, Host: base.Host}, transport: t, closeIdle: t.close,
		origin: xxhash.Sum64String(cmp.Or(config.Identity, base.Scheme+"://"+base.Host)), keyring: newKeyring(&config), repeats: newAllowance(), link: newLink(config.MaxRequests), breakers: breakers{share: float64(config.BreakerPercent) / 100}}
	u.deadlines = config.deadlines()
	fresh := t.make()
	fresh.DisableKeepAlives = true
	u.probes = fresh
	if wrap != nil {
		u.transport, u.probes = wrap(t), wrap(fresh)
	}
	var ctx context.Context
	ctx, u.end = context.WithCancel(context.Background())
	u.suspicion = newSuspicion(ctx, &config, &u.work, u.probe)
	u.suspicion.changed = u.suspicionChanged
	return u, nil
}

// Close ends probes and closes idle connections. Requests under way go on, but for
// those that another has won against.
func (u *Upstream) Close() error {
	u.end()
	u.work.Wait()
	u.keyring.close()
	u.closeIdle()
	return nil
}

// Request is one S3 request, in parsed form.
type Request struct {
	// Op is the S3 API name, for metrics: "GetObject".
	Op     string
	Method string
	Key    akigw.Key // an empty Bucket addresses the service, an empty Name the bucket; a Version becomes versionId
	// Upstream names the upstream, "" for the one that the bucket belongs to.
	Upstream string
	Query    url.Values
	// Header is sent as it is, plus what signing adds.
	Header http.Header
	// Body is sent once; Length is its exact length. A nil Body is empty.
	Body   io.Reader
	Length int64
	// SHA256 is the hex digest of the body when it is known.
	SHA256 string
	// Trailer announces trailing headers. Its values are placeholders of the
	// right length until Body returns io.EOF; by then they must be set.
	Trailer http.Header
	// Expect asks the upstream to judge the head before the body is read.
	Expect bool
	// Bytes is about how long the answer is going to be, 0 if nobody knows.
	Bytes int64
	// Relayed says that the answer goes to a client, at the client's pace.
	Relayed bool
	// Repeat says that the request does once more what failed before, and needs
	// an allowance like a retry.
	Repeat bool
}

// ResponseError is an upstream answer that is not a success. Its body has been
// read (up to 64 KiB) so that it can be passed on.
type ResponseError struct {
	Status int
	Header http.Header
	Body   []byte
}

// Error implements error.
func (e *ResponseError) Error() string { return "upstream answered " + strconv.Itoa(e.Status) }

// NewResponseError reads and closes resp's body.
func NewResponseError(resp *http.Response) *ResponseError {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // a cut error text is still the error
	return &ResponseError{Status: resp.StatusCode, Header: resp.Header, Body: body}
}

// Do sends a request and returns the answer, whatever its status; the caller
// closes the body. The error wraps akigw.ErrUpstreamUnavailable when there was
// no answer, unless ctx ended it; ErrDeadline when there was none in time, and
// ErrSuspect when it was not asked because it answers nobody.
func (u *Upstream) Do(ctx context.Context, r *Request) (*http.Response, error) {
	if suspect, _ := u.suspicion.now(); suspect {
		suspectRefused.Inc()
		return nil, unavailable(r, ErrSuspect)
	}
	u.repeats.earn()
	if r.Repeat && !u.repeats.spend() {
		retriesRefused.Inc()
		return nil, unavailable(r, errNoAllowance)
	}
	return u.bounded(ctx, r)
}

var errNoAllowance = fmt.Errorf("%w: too many requests are being repeated already", ErrNotSent)

// ErrNotSent marks a request that was not sent: the upstream knows nothing of it.
var ErrNotSent = errors.New("not sent")

// send sends a request once.
func (u *Upstream) send(ctx context.Context, r *Request) (*http.Response, error) {
	return u.exchange(ctx, r, u.transport)
}

// exchange is send by way of a transport of the upstream's.
func (u *Upstream) exchange(ctx context.Context, r *Request, transport http.RoundTripper) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(httptrace.WithClientTrace(ctx, countConnections))
	watch := &watchdog{cancel: cancel, hears: u.suspicion.hears}
	if KindOf(r.Op) != Long && r.Op != probeOp {
		watch.suspicion = u.suspicion
	}
	sending := &requestBody{body: r.Body, watch: watch, stall: u.deadlines.Write, wait: u.deadlines.Of(r.Op), over: ctx.Done()}
	req, err := u.build(ctx, r, sending)
	if err != nil {
		cancel(nil)
		return nil, unavailable(r, err)
	}
	metrics.GetOrCreateCounter(`akigw_cold_requests_total{op="` + r.Op + `"}`).Inc()
	if r.Op != probeOp { // who sends a probe bounds it
		watch.start(sending.wait)
	}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		watch.progress()
	}
	watch.end(errors.Is(context.Cause(ctx), ErrDeadline) || ctx.Err() == nil && timedOut(err))
	if err != nil {
		watch.close()
		cause := context.Cause(ctx)
		cancel(nil)
		metrics.GetOrCreateCounter(`akigw_cold_errors_total{op="` + r.Op + `"}`).Inc()
		if sending.failed.Load() {
			err = fmt.Errorf("%w: %w", errGivenUp, err)
		}
		if cause != nil && cause != context.Canceled {
			err = cause
		}
		return nil, unavailable(r, err)
	}
	u.noteDate(resp.Header)
	u.keyring.refused(resp.StatusCode)
	metrics.GetOrCreateCounter(`akigw_cold_responses_total{op="` + r.Op + `",status="` + strconv.Itoa(resp.StatusCode) + `"}`).Inc()
	sending.answered.Store(true)
	resp.Body = &answerBody{ReadCloser: resp.Body, watch: watch, stall: u.deadlines.stall(r.Op)}
	return resp, nil
}

var (
	bytesSent     = metrics.NewCounter("akigw_cold_sent_bytes_total")
	bytesReceived = metrics.NewCounter("akigw_cold_received_bytes_total")
)

// connections counts what requests went out on: connections of the pool, or new ones.
var connections = map[bool]*metrics.Counter{
	true:  metrics.NewCounter(`akigw_cold_connections_total{from="pool"}`),
	false: metrics.NewCounter(`akigw_cold_connections_total{from="dial"}`),
}

var countConnections = &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { connections[i.Reused].Inc() }}

// build makes the HTTP request. Nothing of the client's request is in it that
// is not a field of r.
func (u *Upstream) build(ctx context.Context, r *Request, sending *requestBody) (*http.Request, error) {
	target := u.base
	target.Path = "/" + r.Key.Bucket
	if r.Key.Name != "" {
		target.Path += "/" + r.Key.Name
	}
	target.RawPath = s3utils.EncodePath(target.Path) // the signer's own encoding: signed path = sent path
	target.RawQuery = r.query()
	header := make(http.Header, len(r.Header)+8) // an earlier attempt may still be reading its own
	maps.Copy(header, r.Header)
	header.Set("User-Agent", "akigw")
	header.Set("Accept-Encoding", "identity")
	req := (&http.Request{Method: r.Method, URL: &target, Host: target.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if r.Body != nil && r.Length > 0 {
		req.Body = io.NopCloser(sending)
		req.ContentLength = r.Length
		if seeker, ok := r.Body.(io.ReadSeeker); ok { // replayable on a connection that turned out dead
			req.GetBody = func() (io.ReadCloser, error) {
				_, err := seeker.Seek(0, io.SeekStart)
				return io.NopCloser(sending), err
			}
		}
	}
	req, err := u.sign(req, r)
	if err == nil && r.Expect {
		req.Header.Set("Expect", "100-continue") // not signed: proxies take it off
	}
	return req, err
}

// query is the encoded query, with the key's version id.
func (r *Request) query() string {
	if r.Key.Version == "" {
		return r.Query.Encode()
	}
	query := url.Values{"versionId": {r.Key.Version}}
	for name, values := range r.Query {
		query[name] = values
	}
	return query.Encode()
}

// sign signs at send time. A body with trailers goes out aws-chunked without
// chunk signatures, over plain HTTP as well: services differ in what they take
// for the end of a signed trailer.
func (u *Upstream) sign(req *http.Request, r *Request) (*http.Request, error) {
	c := u.config
	keys, err := u.keyring.keys(req.Context())
	if err != nil {
		return nil, err
	}
	trailer, sum := r.Trailer, r.SHA256
	if !c.TrailingChecksums {
		trailer = nil
	}
	switch {
	case len(trailer) > 0:
		sum = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
		req.GetBody = nil // would send the body without its framing
	case r.Length == 0 || r.Body == nil:
		sum = emptySHA256
	case sum == "":
		sum = "UNSIGNED-PAYLOAD"
	}
	req.Header.Set("X-Amz-Content-Sha256", sum)
	return signer.SignV4Trailer(*req, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken, c.Region, trailer), nil
}

const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// requestBody counts and watches what is sent. Waiting for the client's next
// bytes is the client's time: the watchdog sleeps meanwhile.
type requestBody struct {
	body     io.Reader
	watch    *watchdog
	stall    time.Duration   // for which the body may stand still
	wait     time.Duration   // for an answer, when the body has ended
	over     <-chan struct{} // closed with the answer's body
	answered atomic.Bool
	failed   atomic.Bool // the body could not be read
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.watch.stop()
	n, err := b.body.Read(p)
	bytesSent.Add(n)
	switch {
	case err == nil:
		b.watch.start(b.stall)
	case err != io.EOF && !b.answered.Load():
		b.failed.Store(true)
		b.watch.start(b.wait)
	case err != io.EOF:
		<-b.over // net/http drops what has not been read of the answer when it hears of an error
	default:
		b.watch.start(b.wait)
	}
	return n, err
}

// answerBody counts and watches what is received, and releases the request's
// context when it is closed.
type answerBody struct {
	io.ReadCloser
	watch *watchdog
	stall time.Duration // for which the body may stand still
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.watch.start(b.stall)
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watch.progress()
	}
	b.watch.stop()
	bytesReceived.Add(n)
	return n, err
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.watch.close()
	b.watch.cancel(nil)
	return err
}
