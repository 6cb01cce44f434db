package cold

import (
	"slices"
	"strings"

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

// newKeyring makes the keyring that a configuration asks for.
func newKeyring(c *Config, counters *counters) *keyring {
	file := &credentials.FileAWSCredentials{Filename: c.CredentialsFile, Profile: c.CredentialsProfile}
	role := func() *credentials.IAM { return &credentials.IAM{Endpoint: c.CredentialsEndpoint, Region: c.Region} }
	webIdentity := role()
	webIdentity.EKSIdentity.TokenFile, webIdentity.EKSIdentity.RoleARN, webIdentity.EKSIdentity.RoleSessionName = c.WebIdentityTokenFile, c.RoleARN, "akigw"
	var source credentials.Provider
	switch c.Credentials {
	case environmentKeys:
		source = &credentials.EnvAWS{}
	case fileKeys:
		source = file
	case instanceKeys:
		source = role()
	case webIdentityKeys:
		source = webIdentity
	case chainKeys:
		source = chain{&credentials.EnvAWS{}, file, webIdentity}
	default:
		return newKeyringOf(&credentials.Static{Value: credentials.Value{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey, SignerType: credentials.SignatureV4}}, true, c.Log, counters)
	}
	return newKeyringOf(source, false, c.Log, counters)
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
