-- What was first seen in each month (UTC) of the last year, and where neither list names a path that shows it.
SELECT
    CAST(date_trunc('month', SoftwareFirstSeenTimestamp) AS DATE) AS month,
    count(*) AS installed,
    sum(NumberOfWeaknesses) AS weaknesses,
    count(CASE WHEN DiskPaths IS NULL AND RegistryPaths IS NULL THEN 1 END) AS without_evidence
FROM software_inventory
WHERE SoftwareFirstSeenTimestamp >= TIMESTAMP '2020-01-01 00:00:00'
GROUP BY CAST(date_trunc('month', SoftwareFirstSeenTimestamp) AS DATE)
ORDER BY month
