package cold

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// Config configures an upstream: [upstream] of the configuration file.
type Config struct {
	URL       string `toml:"url" env:"AKIGW_UPSTREAM" help:"endpoint of the S3 service behind the gateway; empty starts the embedded trial upstream"`
	AccessKey string `toml:"access_key" help:"access key id for the upstream"`
	SecretKey string `toml:"secret_key" secret:"true" help:"secret access key for the upstream"`
	Region    string `toml:"region" help:"region to sign upstream requests for"`
	// TrailingChecksums sends a client's trailing checksum on as a trailer.
	// Off for an upstream that rejects aws-chunked bodies: then the gateway
	// alone verifies it.
	TrailingChecksums bool `toml:"trailing_checksums" help:"pass the trailing checksums of large uploads on to the upstream; switch it off for a service that rejects them"`
	// Credentials says where the keys come from.
	Credentials          string `toml:"credentials" help:"where the upstream's keys come from. static: access_key and secret_key. environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN. file: a shared credentials file. instance: the role of the EC2 instance, ECS task or EKS pod. web-identity: a token file, exchanged at STS. chain: the first of environment, file and the two roles that has any"`
	CredentialsFile      string `toml:"credentials_file" help:"the shared credentials file; empty: AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials"`
	CredentialsProfile   string `toml:"credentials_profile" help:"the profile in that file; empty: AWS_PROFILE or default"`
	CredentialsEndpoint  string `toml:"credentials_endpoint" help:"the endpoint for roles, instead of AWS's instance metadata service or STS"`
	RoleARN              string `toml:"role_arn" help:"the role for web-identity; empty: AWS_ROLE_ARN"`
	WebIdentityTokenFile string `toml:"web_identity_token_file" help:"the token file for web-identity; empty: AWS_WEB_IDENTITY_TOKEN_FILE"`

	Retries      int `toml:"retries" help:"how many times a read is retried that got no response, or 429, 500, 502, 503 or 504. Retries and hedges together add at most a fifth to the requests"`
	HedgeAfterMs int `toml:"hedge_after_ms" help:"milliseconds after which a read without a response is sent a second time; the first response is used. 0: never"`
	MaxRequests  int `toml:"max_requests" help:"most requests to the upstream that are under way; those that wait get fair shares by identity and the weight of their class. 0: no limit"`

	Events string `toml:"events" help:"how the upstream reports changes of objects, for freshness events. stream: MinIO's bucket notifications. webhook: S3 event notifications that are posted to /events of the admin listener"`

	// Log receives the failures to fetch credentials; nil: they are not logged.
	Log *slog.Logger
	// Metrics is the set that the metrics are registered in, nil for none.
	Metrics *metrics.Set
	// Identity stands for the URL in the identity of cached objects, "" for the
	// URL itself.
	Identity string

	BreakerPercent int `toml:"breaker_percent" help:"share of failed requests in ten seconds, of 20 or more to one bucket, after which requests to it are refused for two seconds; 0: never"`

	RequestDeadlineSecs int `toml:"request_deadline_secs" help:"seconds within which GET, HEAD, listings and DELETE get a response, with all retries and waits; after that the client gets 503. The body of a response may take longer, as long as it makes progress"`
	WriteDeadlineSecs   int `toml:"write_deadline_secs" help:"seconds within which PUT and UploadPart get a response, from the last byte of the body on; a body that makes no progress for so long ends its request as well"`
	LongDeadlineSecs    int `toml:"long_deadline_secs" help:"the same for operations that may take long: CompleteMultipartUpload, copies, DeleteObjects and everything that is only forwarded"`
	SuspectAfterMs      int `toml:"suspect_after_ms" help:"milliseconds without a byte in either direction, on two or more requests, after which a probe finds out whether the upstream still responds. If it does not, the upstream is suspect: requests that need it get 503 at once until a probe gets a response"`
	ProbeTimeoutMs      int `toml:"probe_timeout_ms" help:"milliseconds that such a probe waits for a response; more than a slow upstream takes"`
}

// SetDefaults sets the values that apply where the configuration sets none.
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

// Check reports each invalid value by its key.
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

// Check reports each invalid value by its key.
func (c *PoolConfig) Check(report func(key, problem string)) {
	if c.PoolSize < 1 || c.PoolSize > 10000 {
		report("pool_size", "must be 1 to 10000")
	}
	if c.IdleTimeoutSecs < 1 || c.IdleTimeoutSecs > 3600 {
		report("idle_timeout_secs", "must be 1 to 3600")
	}
}

// Where the keys for an upstream come from: Config.Credentials.
const (
	staticKeys      = "static"
	environmentKeys = "environment"
	fileKeys        = "file"
	instanceKeys    = "instance"
	webIdentityKeys = "web-identity"
	chainKeys       = "chain"
)

// checkCredentials reports what is missing for the source of the keys.
func (c *Config) checkCredentials(report func(key, problem string)) {
	sources := []string{staticKeys, environmentKeys, fileKeys, instanceKeys, webIdentityKeys, chainKeys}
	switch {
	case !slices.Contains(sources, c.Credentials):
		report("credentials", "must be one of "+strings.Join(sources, ", "))
	case c.Credentials != staticKeys:
		if c.AccessKey != "" || c.SecretKey != "" {
			report("credentials", "is "+c.Credentials+", so access_key and secret_key must be empty")
		}
	case c.URL != "":
		if c.AccessKey == "" {
			report("access_key", "is needed with upstream.url, unless upstream.credentials says where the keys come from")
		}
		if c.SecretKey == "" {
			report("secret_key", "is needed with upstream.url, unless upstream.credentials says where the keys come from")
		}
	}
	if c.Credentials == webIdentityKeys && (c.WebIdentityTokenFile == "") != (c.RoleARN == "") {
		report("web_identity_token_file", "goes together with role_arn")
	}
}

// The defaults of request_deadline_secs, write_deadline_secs and long_deadline_secs.
const (
	defaultRead  = 15
	defaultWrite = 30
	defaultLong  = 600
)

// The defaults of suspect_after_ms and probe_timeout_ms.
const (
	defaultSuspectAfter = 3000
	defaultProbeTimeout = 10000
)

// checkDeadlines reports invalid deadlines by their keys.
func (c *Config) checkDeadlines(report func(key, problem string)) {
	for _, k := range []struct {
		key         string
		value, most int
	}{
		{"request_deadline_secs", c.RequestDeadlineSecs, 3600},
		{"write_deadline_secs", c.WriteDeadlineSecs, 3600},
		{"long_deadline_secs", c.LongDeadlineSecs, 24 * 3600},
		{"suspect_after_ms", c.SuspectAfterMs, 3_600_000},
		{"probe_timeout_ms", c.ProbeTimeoutMs, 3_600_000},
	} {
		if k.value < 1 || k.value > k.most {
			report(k.key, fmt.Sprintf("must be 1 to %d", k.most))
		}
	}
}

// FurtherConfig is a further upstream: [[upstreams]] of the configuration file.
type FurtherConfig struct {
	Name    string `toml:"name" help:"what the upstream is called in metrics and messages"`
	Buckets string `toml:"buckets" help:"comma-separated patterns of the buckets in this upstream: \"*\" matches any characters, \"?\" any single one. The first upstream with a matching pattern has the bucket; [upstream] has all other buckets"`
	Config
}

// DefaultName is the name of the upstream that has the buckets that no other upstream has.
const DefaultName = "default"

// Check reports each invalid value by its key.
func (c *FurtherConfig) Check(report func(key, problem string)) {
	switch {
	case c.Name == "" || strings.ContainsAny(c.Name, "\"\\\n"):
		report("name", "must be a name")
	case c.Name == DefaultName:
		report("name", DefaultName+" is the name of [upstream]")
	}
	if len(c.patterns()) == 0 {
		report("buckets", "must be patterns, separated by commas")
	}
	if c.URL == "" {
		report("url", "must be http://HOST[:PORT] or https://HOST[:PORT]")
	}
	c.Config.Check(report)
}

func (c *FurtherConfig) patterns() (patterns []string) {
	for p := range strings.SplitSeq(c.Buckets, ",") {
		if p = strings.TrimSpace(p); p != "" {
			patterns = append(patterns, p)
		}
	}
	return patterns
}
