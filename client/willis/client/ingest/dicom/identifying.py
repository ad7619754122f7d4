"""Which DICOM attributes name a person, a place or a machine, and which values of them name nobody.

From PS3.15 table E.1-1, the Basic Profile's attributes with action X, Z or D that name directly. Left out,
because intake cannot tell a cleaned value from another, or needs it: UIDs, dates but birth's (they may be
shifted), sex, age, weight, descriptions of study, series and protocol (the site's rule reads them). None
of these is written anywhere as it is.
"""

import re

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword

_PERSON = """
PatientName PatientBirthDate PatientBirthTime PatientBirthDateInAlternativeCalendar OtherPatientIDs
OtherPatientIDsSequence OtherPatientNames PatientBirthName PatientMotherBirthName PatientAddress
PatientTelephoneNumbers PatientTelecomInformation CountryOfResidence RegionOfResidence MilitaryRank
BranchOfService Occupation PatientReligiousPreference EthnicGroup MedicalRecordLocator
InsurancePlanIdentification PatientInsurancePlanCodeSequence ReferencedPatientPhotoSequence ResponsiblePerson
ResponsibleOrganization PatientInstitutionResidence CurrentPatientLocation LastMenstrualDate SpecialNeeds
MedicalAlerts Allergies PatientState IssuerOfPatientID IssuerOfPatientIDQualifiersSequence
AccessionNumber IssuerOfAccessionNumberSequence StudyID AdmissionID IssuerOfAdmissionID ServiceEpisodeID
IssuerOfServiceEpisodeID RequestedProcedureID ScheduledProcedureStepID PerformedProcedureStepID
PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest OrderCallbackPhoneNumber
OrderCallbackTelecomInformation OrderEnteredBy OrderEntererLocation
ReferringPhysicianName ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers
ReferringPhysicianIdentificationSequence ConsultingPhysicianName ConsultingPhysicianIdentificationSequence
PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence PerformingPhysicianName
PerformingPhysicianIdentificationSequence NameOfPhysiciansReadingStudy
PhysiciansReadingStudyIdentificationSequence OperatorsName OperatorIdentificationSequence
RequestingPhysician RequestingPhysicianIdentificationSequence ScheduledPerformingPhysicianName
ScheduledPerformingPhysicianIdentificationSequence PersonIdentificationCodeSequence PersonName PersonAddress
PersonTelephoneNumbers PersonTelecomInformation NamesOfIntendedRecipientsOfResults
IntendedRecipientsOfResultsIdentificationSequence ContentCreatorName ContentCreatorIdentificationCodeSequence
VerifyingObserverName VerifyingObserverIdentificationCodeSequence VerifyingOrganization ReviewerName
ActualHumanPerformersSequence HumanPerformerName HumanPerformerOrganization ScheduledHumanPerformersSequence
ClinicalTrialSponsorName ClinicalTrialCoordinatingCenterName
ScheduledPatientInstitutionResidence PatientTransportArrangements ModifyingSystem SourceOfPreviousValues
TopicAuthor LabelText BarcodeValue
"""
_INSTITUTION = """
InstitutionName InstitutionAddress InstitutionCodeSequence InstitutionalDepartmentName
InstitutionalDepartmentTypeCodeSequence RequestingService ScheduledStudyLocation
ScheduledProcedureStepLocation PerformedLocation ClinicalTrialSiteName ClinicalTrialSiteID
"""
_DEVICE = """
StationName DeviceSerialNumber DeviceUID PlateID CassetteID GantryID DetectorID GeneratorID
PerformedStationName PerformedStationAETitle ScheduledStationName ScheduledStationAETitle
ScheduledStudyLocationAETitle PerformedStationNameCodeSequence ScheduledStationNameCodeSequence
UniqueDeviceIdentifier UDISequence
"""
_REMARK = """
PatientComments AdditionalPatientHistory ImageComments FrameComments StudyComments VisitComments
AcquisitionComments RequestedProcedureComments ImagingServiceRequestComments IdentifyingComments
CommentsOnThePerformedProcedureStep CommentsOnTheScheduledProcedureStep AdmittingDiagnosesDescription
ReasonForStudy ReasonForTheRequestedProcedure ReasonForTheImagingServiceRequest
InterpretationText InterpretationDiagnosisDescription ResultsComments DerivationDescription
TextComments TextString TextValue UnformattedTextValue ReasonForVisit DischargeDiagnosisDescription
TopicTitle TopicSubject TopicKeywords PreMedication
"""

RETAIN_SAFE_PRIVATE = "113111"
_RETAINED_BY = {
    "113105": _REMARK,
    "113109": _DEVICE,
    "113112": _INSTITUTION,
}  # PS3.16 CID 7050: option -> what stays


def _tags(keywords: str) -> dict[int, str]:
    found = {keyword: tag_for_keyword(keyword) for keyword in keywords.split()}
    return {tag: keyword for keyword, tag in found.items() if tag is not None}


_NAMES = {tag: entry[4] for tag, entry in DicomDictionary.items() if entry[0] == "PN"}
IDENTIFYING: dict[int, str] = _NAMES | _tags(_PERSON + _INSTITUTION + _DEVICE + _REMARK)
SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")

_DUMMY_WORDS = frozenset(
    [
        "ANON",
        "ANONYM",
        "ANONYMOUS",
        "ANONYMIZED",
        "ANONYMISED",
        "ANONYMIZE",
        "ANONYMISE",
        "SYNTHETIC",
        "SYNTH",
        "PSEUDO",
        "PSEUDONYM",
        "PSEUDONYMOUS",
        "PSEUDONYMIZED",
        "PSEUDONYMISED",
        "DEIDENTIFIED",
        "DEID",
        "REMOVED",
        "REDACTED",
        "UNKNOWN",
        "NONE",
        "NA",
        "DUMMY",
    ]
)
_BESIDE_DUMMIES = frozenset(
    ["SUBJECT", "PATIENT", "NAME", "PERSON", "CASE", "DE", "IDENTIFIED", "ID", "NO", "N", "A"]
)
_BLANK = re.compile(r"[0Xx\s^=\-_.*:,/?]*")
_BETWEEN = re.compile(r"[\s^=\-_./]+")
_WORD = re.compile(r"([A-Z]*)(\d{0,6})")
_DUMMY_DATES = frozenset({"00000000", "00010101", "19000101", "19010101"})


def retained(codes: frozenset[str]) -> frozenset[int]:
    """Return the tags that the options of a de-identification (codes of CID 7050) let stand."""
    return frozenset(tag for code in codes & _RETAINED_BY.keys() for tag in _tags(_RETAINED_BY[code]))


def names_nobody(keyword: str, text: str, patient: str) -> bool:
    """Whether a value is empty or a dummy.

    Accepted: blanks, zeros and X alone; ``ANON``, ``SYNTHETIC``, ``PSEUDO`` and the like, followed by words
    as ``SUBJECT01`` or up to six digits; a birth date that is nobody's; a StudyID of up to four digits; the
    PatientID once more: whoever made it writes it as the name too, and it says no more
    than that. Not accepted: ``ANON^SMITH`` and ``ANONBY``, which is a surname.
    """
    told = text.strip().strip("\0").strip()
    if _BLANK.fullmatch(told) or (patient and told.strip("^= ") == patient):
        return True
    if keyword == "PatientBirthDate":
        return told in _DUMMY_DATES
    if keyword == "StudyID" and re.fullmatch(r"\d{1,4}", told):
        return True
    first, *rest = [word for word in _BETWEEN.split(told.upper()) if word] or [""]
    return _is_dummy(first, _DUMMY_WORDS) and all(
        _is_dummy(word, _DUMMY_WORDS | _BESIDE_DUMMIES) for word in rest
    )


def _is_dummy(word: str, known: frozenset[str]) -> bool:
    parts = _WORD.fullmatch(word)
    return parts is not None and (parts[1] in known or (not parts[1] and known >= _BESIDE_DUMMIES))
