package cold

import "github.com/minio/minio-go/v7/pkg/credentials"

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
