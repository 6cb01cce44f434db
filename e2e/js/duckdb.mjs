// Runs a file of SQL statements, each behind a line "--", against a database in memory, and
// prints the rows of each as a line of JSON.
import { readFileSync } from 'node:fs';
import { DuckDBInstance } from '@duckdb/node-api';

const instance = await DuckDBInstance.create(':memory:');
const connection = await instance.connect();
for (const sql of readFileSync(process.argv[2], 'utf8').split('\n--\n')) {
  const reader = await connection.runAndReadAll(sql);
  console.log(JSON.stringify(reader.getRowObjectsJson()));
}
