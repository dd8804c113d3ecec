-- Which keyring this warehouse belongs to: tokens of another would stand beside the old ones unnoticed.
CREATE TABLE vault.keyring_check (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32)
);
COMMENT ON TABLE vault.keyring_check IS 'Digest of the token key of the keyring that this warehouse was made with.';
COMMENT ON COLUMN vault.keyring_check.only_row IS 'True: there is one row.';
COMMENT ON COLUMN vault.keyring_check.digest IS 'HMAC-SHA256 of a constant under the token key; tells nothing about it.';
GRANT SELECT, INSERT ON vault.keyring_check TO privacy_pipeline;
GRANT SELECT ON vault.keyring_check TO privacy_compliance;
