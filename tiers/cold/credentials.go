package cold

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Where the keys for an upstream come from: Config.Credentials.
const (
	staticKeys      = "static"
	environmentKeys = "environment"
	fileKeys        = "file"
	instanceKeys    = "instance"
	webIdentityKeys = "web-identity"
	chainKeys       = "chain"
)

var keySources = []string{staticKeys, environmentKeys, fileKeys, instanceKeys, webIdentityKeys, chainKeys}

// fetchKeys is how long one request for temporary keys may take.
const fetchKeys = 10 * time.Second

// keyring has the upstream's keys at the moment, fetched again before they
// expire, and when the upstream refuses them.
type keyring struct {
	source *credentials.Credentials
	client *http.Client
	static bool
}

func newKeyring(c *Config) *keyring {
	k := &keyring{client: &http.Client{Timeout: fetchKeys, Transport: &http.Transport{DisableKeepAlives: true}}}
	file := &credentials.FileAWSCredentials{Filename: c.CredentialsFile, Profile: c.CredentialsProfile}
	role := func() *credentials.IAM { return &credentials.IAM{Endpoint: c.CredentialsEndpoint, Region: c.Region} }
	webIdentity := role()
	webIdentity.EKSIdentity.TokenFile, webIdentity.EKSIdentity.RoleARN, webIdentity.EKSIdentity.RoleSessionName = c.WebIdentityTokenFile, c.RoleARN, "akigw"
	switch c.Credentials {
	case environmentKeys:
		k.source = credentials.New(&credentials.EnvAWS{})
	case fileKeys:
		k.source = credentials.New(file)
	case instanceKeys:
		k.source = credentials.New(role())
	case webIdentityKeys:
		k.source = credentials.New(webIdentity)
	case chainKeys:
		k.source = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, file, webIdentity})
	default:
		k.static = true
		k.source = credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	}
	return k
}

// keys returns the keys to sign with now.
func (k *keyring) keys(ctx context.Context) (credentials.Value, error) {
	cc := &credentials.CredContext{Client: k.client}
	v, err := k.source.GetWithContext(cc)
	if err == nil && v.SignerType == credentials.SignatureAnonymous {
		err = fmt.Errorf("no source of credentials has any")
	}
	if err != nil {
		return v, fmt.Errorf("credentials for the upstream: %w", err)
	}
	return v, ctx.Err()
}

// refused says that the upstream did not take the keys: they may have been
// replaced, so the next request fetches them again.
func (k *keyring) refused() {
	if !k.static {
		k.source.Expire()
	}
}

// checkCredentials reports what is missing for the source of the keys.
func (c *Config) checkCredentials(report func(key, problem string)) {
	switch {
	case !slices.Contains(keySources, c.Credentials):
		report("credentials", "must be one of "+strings.Join(keySources, ", "))
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
