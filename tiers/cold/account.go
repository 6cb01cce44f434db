package cold

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
)

// account identifies the credentials that are used for an upstream: what one account may see of a bucket
// says nothing about another account. It is a hash of the access key id or, for keys that are replaced
// regularly, of their source. No part of a secret is in it.
func (c *Config) account() string {
	from := []string{c.Credentials}
	if c.Identity != "" { // the embedded upstream has other keys each time
		from = append(from, c.Identity)
	} else if c.Credentials == staticKeys || c.Credentials == "" {
		from = append(from, c.AccessKey)
	} else {
		from = append(from, c.CredentialsFile, c.CredentialsProfile, c.CredentialsEndpoint, c.RoleARN, c.WebIdentityTokenFile)
		for _, name := range []string{"AWS_PROFILE", "AWS_ROLE_ARN", "AWS_SHARED_CREDENTIALS_FILE"} {
			from = append(from, os.Getenv(name))
		}
		if (c.Credentials == environmentKeys || c.Credentials == chainKeys) && os.Getenv("AWS_SESSION_TOKEN") == "" { // with a token the key is a temporary one
			from = append(from, os.Getenv("AWS_ACCESS_KEY_ID"))
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(from, "\x00")))
	return hex.EncodeToString(sum[:8])
}
