package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/listen"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/sigv4"
)

// Config configures the S3 listener and its root key pair: the top level of the configuration file.
type Config struct {
	Listen    string `toml:"listen" help:"address of the S3 listener"`
	AccessKey string `toml:"access_key" help:"access key id of the gateway's root key pair; empty makes a trial pair"`
	SecretKey string `toml:"secret_key" secret:"true" help:"secret access key of the gateway's root key pair"`
	Region    string `toml:"region" help:"region that clients sign for"`
	Domains   string `toml:"domains" help:"comma-separated names below which the first label of a host name is a bucket (virtual-hosted style): s3.example.com serves BUCKET.s3.example.com"`
	TLSCert   string `toml:"tls_cert" help:"PEM file with the S3 listener's certificate chain"`
	TLSKey    string `toml:"tls_key" help:"PEM file with its private key"`

	MaxConnections           int        `toml:"max_connections" help:"connections to the S3 listener in all; further ones are closed at once. 0: no limit"`
	MaxBuckets               int        `toml:"max_buckets" help:"how many buckets there may be in all; creating another one fails with TooManyBuckets. 0: as many as the upstream allows"`
	MaxConnectionsPerAddress int        `toml:"max_connections_per_address" help:"the same from one IPv4 address or IPv6 /64; keep 0, no limit, behind a load balancer"`
	MinRate                  size.Bytes `toml:"min_rate" help:"bytes per second that a client has to send of a body, or accept of a response, over 30 seconds; slower connections are closed. 0: no limit"`
	AcceptV2                 sigv4.V2   `toml:"accept_signature_v2" help:"requests with signature version 2 that are accepted: presigned (presigned URLs to GET, HEAD, PUT or DELETE an object, and browser forms), all (the Authorization header as well) or none"`
	FailuresPerMinute        int        `toml:"auth_failures_per_minute" help:"wrong signatures from one address in a minute, after which further ones are answered with 503 SlowDown; correctly signed requests are never delayed. 0: no limit"`
	RequestMemory            size.Bytes `toml:"request_memory" help:"memory for the bodies of requests in progress; above it, requests with a body are answered with 503 SlowDown"`

	AllowPlaintext bool `toml:"allow_plaintext" help:"listen beyond loopback without TLS: anyone on the network path can read and change what is transferred"`
	AllowTrialKeys bool `toml:"allow_trial_keys" help:"listen beyond loopback with the generated trial key pair: anyone who has seen the console output or can read the data directory has full access"`
}

// Check reports every invalid value by its key.
func (c *Config) Check(report func(key, problem string)) {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		report("listen", "must be HOST:PORT")
	}
	if c.Region == "" {
		report("region", "must not be empty")
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		report("access_key", "and secret_key need each other")
	}
	if c.AccessKey != "" && c.SecretKey != "" {
		if err := sigv4.CheckPair(c.AccessKey, c.SecretKey); err != nil {
			report("secret_key", err.Error())
		}
	}
	for key, value := range map[string]int64{"max_connections": int64(c.MaxConnections), "max_buckets": int64(c.MaxBuckets), "max_connections_per_address": int64(c.MaxConnectionsPerAddress), "auth_failures_per_minute": int64(c.FailuresPerMinute), "min_rate": int64(c.MinRate)} {
		if value < 0 {
			report(key, "must not be negative")
		}
	}
	switch c.AcceptV2 {
	case sigv4.V2None, sigv4.V2Presigned, sigv4.V2All:
	default:
		report("accept_signature_v2", "must be none, presigned or all")
	}
	if c.RequestMemory < minRequestMemory {
		report("request_memory", "must be at least 32MiB")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		report("tls_cert", "and tls_key need each other")
	}
	c.checkExposure(report)
}

// minRequestMemory fits a few of the largest bodies that are held in memory: a signed chunk, or a
// list of 10,000 parts.
const minRequestMemory = 32 << 20

// DomainList returns Domains as a list.
func (c *Config) DomainList() (domains []string) {
	for name := range strings.SplitSeq(c.Domains, ",") {
		if name = strings.Trim(strings.TrimSpace(name), "."); name != "" {
			domains = append(domains, strings.ToLower(name))
		}
	}
	return domains
}

// checkExposure refuses to listen beyond loopback without TLS or with the trial key pair, unless
// the operator allows it.
func (c *Config) checkExposure(report func(key, problem string)) {
	c.exposed(c.Listen, func(problem string) { report("listen", problem) })
}

// exposed reports why no listener may be bound to an address.
func (c *Config) exposed(address string, report func(problem string)) {
	if listen.Loopback(address) {
		return
	}
	if c.TLSCert == "" && !c.AllowPlaintext {
		report(address + " is not loopback and there is no TLS: set tls_cert and tls_key, or allow_plaintext (--allow-plaintext) if something in front encrypts")
	}
	if c.AccessKey == "" && !c.AllowTrialKeys {
		report(address + " is not loopback and the key pair is the generated trial pair: set access_key and secret_key (AKIGW_ACCESS_KEY, AKIGW_SECRET_KEY), or allow_trial_keys (--allow-trial-keys)")
	}
}

// Limits of a connection: time and size of the headers, idle time, and the window of
// Config.MinRate.
const (
	headerTimeout = 10 * time.Second
	headerBytes   = 16 << 10
	idleTimeout   = 2 * time.Minute
	rateWindow    = 30 * time.Second
)

// Server returns the HTTP server of the S3 listener. S3 is HTTP/1.1. Requests that g answers from
// memory or local disk bypass net/http (httpguard.FastPath). With around, which wraps g, or with
// QoS limits, which pace responses, net/http handles all requests.
func Server(g *Gateway, around func(http.Handler) http.Handler, log *slog.Logger) *http.Server {
	fast, handler := g.ServeLocal, http.Handler(g)
	if g.options.QoS != nil {
		fast = nil
	}
	if around != nil {
		fast, handler = nil, around(g)
	}
	return serverOf(handler, fast, log)
}

// VectorsServer returns the HTTP server of a listener for S3 Vectors alone. It has the same limits.
func VectorsServer(g *Gateway, around func(http.Handler) http.Handler, log *slog.Logger) *http.Server {
	handler := g.VectorsHandler()
	if around != nil {
		handler = around(handler)
	}
	return serverOf(handler, nil, log)
}

func serverOf(handler http.Handler, fast httpguard.FastPath, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    headerBytes,
		IdleTimeout:       idleTimeout,
		ConnContext:       httpguard.WithFastPath(fast, idleTimeout),
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Bind opens the S3 listener, with TLS if there is a certificate. The metrics of its connections
// are registered in set; nil: in a private one.
func Bind(c *Config, set *metrics.Set, log *slog.Logger) (net.Listener, error) {
	l, err := c.bind(c.Listen, set, log)
	if err != nil {
		return nil, fmt.Errorf("S3 listener: %w; is another process using the port? (--listen)", err)
	}
	return l, nil
}

// BindVectors opens a listener for S3 Vectors alone at an address, with the certificate and the limits
// of the S3 listener. It refuses an address beyond loopback as the S3 listener does.
func BindVectors(c *Config, address string, set *metrics.Set, log *slog.Logger) (net.Listener, error) {
	var problems []error
	c.exposed(address, func(problem string) { problems = append(problems, errors.New(problem)) })
	l, err := net.Listener(nil), errors.Join(problems...)
	if err == nil {
		l, err = c.bind(address, set, log)
	}
	if err != nil {
		return nil, fmt.Errorf("S3 Vectors listener (vectors.listen): %w", err)
	}
	return l, nil
}

func (c *Config) bind(address string, set *metrics.Set, log *slog.Logger) (net.Listener, error) {
	var secure *tls.Config
	if c.TLSCert != "" {
		var err error
		if secure, err = listen.TLS(c.TLSCert, c.TLSKey, log); err != nil {
			return nil, fmt.Errorf("tls_cert and tls_key: %w", err)
		}
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	caps := httpguard.Caps{Connections: c.MaxConnections, PerAddress: c.MaxConnectionsPerAddress, Metrics: set}
	if secure == nil {
		caps.Greeting = s3err.Raw(s3err.SlowDown.With("Too many connections."))
	}
	l = httpguard.Capped(l, caps)
	if secure != nil {
		l = listen.Secure(l, secure)
	}
	return httpguard.Strict(l, httpguard.Limits{HeadBytes: headerBytes, HeadTime: headerTimeout, Rate: int64(c.MinRate), Window: rateWindow, Metrics: set}), nil
}
