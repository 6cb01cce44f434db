// Round trips of the JavaScript clients: the AWS SDK's version 3 and 2, and
// minio-js. Arguments: the endpoint. The keys are in the AWS_* environment.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { GetObjectCommand, PutObjectCommand, S3 } from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import AWS from "aws-sdk";
import * as Minio from "minio";

const endpoint = process.argv[2];
const { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey, AWS_DEFAULT_REGION: region } = process.env;
const name = "a b/ü"; // minio-js decodes what it lists once too often: no + and no %
const big = randomBytes(11 << 20);
const collect = async (stream) => Buffer.concat(await stream.toArray());
// Chunks of a stream become chunks on the wire.
const trickle = (bytes, step) => Readable.from((function* () { for (let i = 0; i < bytes.length; i += step) yield bytes.subarray(i, i + step); })());
const put = (url, body) => fetch(url, { method: "PUT", body }).then((r) => r.status);

async function sdk3() {
  const options = { endpoint, region, forcePathStyle: true, credentials: { accessKeyId: accessKey, secretAccessKey: secretKey } };
  const s3 = new S3(options);
  const Bucket = "js3bucket";
  const get = async (Key, more) => Buffer.from(await (await s3.getObject({ Bucket, Key, ...more })).Body.transformToByteArray());
  await s3.createBucket({ Bucket });
  await s3.putObject({ Bucket, Key: name, Body: "hello", Metadata: { color: "blue" } });
  for (let i = 0; i < 2; i++) assert.equal((await get(name, { ChecksumMode: "ENABLED" })).toString(), "hello");
  assert.deepEqual((await s3.headObject({ Bucket, Key: name })).Metadata, { color: "blue" });
  const part = big.subarray(0, 300_000);
  for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
    await s3.putObject({ Bucket, Key: "stream", Body: trickle(part, 1000), ContentLength: part.length, ChecksumAlgorithm });
    assert.ok((await get("stream", { ChecksumMode: "ENABLED" })).equals(part), ChecksumAlgorithm);
  }
  await new Upload({ client: s3, params: { Bucket, Key: "big", Body: trickle(big, 1 << 20) }, partSize: 5 << 20 }).done();
  assert.ok((await get("big")).equals(big));
  assert.ok((await get("big", { Range: "bytes=1000-1999" })).equals(big.subarray(1000, 2000)));
  await assert.rejects(s3.getObject({ Bucket, Key: "none" }), { name: "NoSuchKey" });
  await assert.rejects(s3.putObject({ Bucket, Key: "big", Body: "x", IfNoneMatch: "*" }), { name: "PreconditionFailed" });
  assert.equal(await (await fetch(await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: name })))).text(), "hello");
  const later = new S3({ ...options, requestChecksumCalculation: "WHEN_REQUIRED" }); // the body is not known when it signs
  assert.equal(await put(await getSignedUrl(later, new PutObjectCommand({ Bucket, Key: "presigned" })), "x"), 200);
  const { Contents } = await s3.listObjectsV2({ Bucket });
  assert.deepEqual(Contents.map((o) => o.Key), [name, "big", "presigned", "stream"]);
  assert.equal((await s3.deleteObjects({ Bucket, Delete: { Objects: Contents.map(({ Key }) => ({ Key })) } })).Deleted.length, 4);
  await s3.deleteBucket({ Bucket });
}

async function sdk2() {
  const s3 = new AWS.S3({ endpoint, region, s3ForcePathStyle: true, signatureVersion: "v4", accessKeyId: accessKey, secretAccessKey: secretKey });
  const Bucket = "js2bucket";
  await s3.createBucket({ Bucket }).promise();
  await s3.putObject({ Bucket, Key: name, Body: "hello", ContentType: "text/x-test", Metadata: { color: "blue" } }).promise();
  const got = await s3.getObject({ Bucket, Key: name }).promise();
  assert.deepEqual([got.Body.toString(), got.ContentType, got.Metadata], ["hello", "text/x-test", { color: "blue" }]);
  await s3.upload({ Bucket, Key: "big", Body: big }).promise();
  assert.ok((await s3.getObject({ Bucket, Key: "big" }).promise()).Body.equals(big));
  assert.equal(await (await fetch(s3.getSignedUrl("getObject", { Bucket, Key: name }))).text(), "hello");
  assert.equal(await put(s3.getSignedUrl("putObject", { Bucket, Key: "presigned" }), "x"), 200);
  const { Contents } = await s3.listObjectsV2({ Bucket }).promise();
  assert.equal((await s3.deleteObjects({ Bucket, Delete: { Objects: Contents.map(({ Key }) => ({ Key })) } }).promise()).Deleted.length, 3);
  await s3.deleteBucket({ Bucket }).promise();
}

async function minioJS() {
  const { hostname: endPoint, port } = new URL(endpoint);
  const client = new Minio.Client({ endPoint, port: Number(port), useSSL: false, accessKey, secretKey, region });
  const bucket = "miniojsbucket";
  await client.makeBucket(bucket);
  await client.putObject(bucket, name, "hello", 5, { "Content-Type": "text/x-test", "X-Amz-Meta-Color": "blue" });
  assert.equal((await collect(await client.getObject(bucket, name))).toString(), "hello");
  const { metaData } = await client.statObject(bucket, name);
  assert.deepEqual([metaData["content-type"], metaData.color], ["text/x-test", "blue"]);
  await client.putObject(bucket, "large", big.subarray(0, 3 << 20));
  assert.ok((await collect(await client.getPartialObject(bucket, "large", 100, 50))).equals(big.subarray(100, 150)));
  assert.equal(await (await fetch(await client.presignedGetObject(bucket, name, 60))).text(), "hello");
  assert.equal(await put(await client.presignedPutObject(bucket, "presigned", 60), "x"), 200);
  await client.copyObject(bucket, "copy", `/${bucket}/large`);
  const names = (await client.listObjectsV2(bucket, "", true).toArray()).map((o) => o.name);
  assert.deepEqual(names, [name, "copy", "large", "presigned"]);
  await client.removeObjects(bucket, names);
  await client.removeBucket(bucket);
}

await sdk3();
await sdk2();
await minioJS();
console.log("done");
